"""The field `within` of documents that belong to a unit: all units whose subtrees contain it, and `*`.

An index that begins with it and ends with the id finds a page of any subtree in the order of ids, however
many documents other units have.
"""

from __future__ import annotations

from services.shared.contracts.vocabulary import lineage
from services.shared.identity import ALL_UNITS


def within(unit: str) -> list[str]:
    return [ALL_UNITS, *lineage(unit)]
