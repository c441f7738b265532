"""Types that the HTTP schemas of several features share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from services.shared.http.body import Body
from services.shared.http.values import Canonical
from services.shared.text import Name

Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9-]+$"), Canonical]


class UnitName(Body):
    """A unit's or group's name in both scripts."""

    en: Name
    hi: Name
