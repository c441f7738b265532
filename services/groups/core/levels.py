"""The levels of a tree, from the root. Four ship; an organisation may have others, at most eight. Pure."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from services.shared.contracts.vocabulary import LEVELS

SHIPPED: Final = tuple([level.value for level in LEVELS])
TREE: Final = "tree"
"""The id of the one document of the collection `tree`, which has the levels in force."""
LevelWord = Annotated[
    str,
    Field(
        pattern=r"^[a-z][a-z0-9_]{0,31}$", description="One of the tree's levels, as /v1/units/levels says."
    ),
]
