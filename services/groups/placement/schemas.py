"""HTTP schemas of placements."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from services.groups.core.domain import Placement, PlacementState


class PlacementOut(BaseModel):
    """Where a member is placed. `group_id` and `ordinal` are null while waiting and after leaving."""

    group_id: str | None
    unit: str
    kind: str
    ordinal: int | None
    state: PlacementState
    since: datetime


class PlacementsOut(BaseModel):
    items: list[PlacementOut]


class WaitingOut(BaseModel):
    """A member who waits, `since` when, for `unit`, which does not exist."""

    member_id: str
    unit: str
    state: PlacementState
    since: datetime


def waiting_out(placement: Placement) -> dict[str, Any]:
    return {name: getattr(placement, name) for name in WaitingOut.model_fields}


def placement_out(placement: Placement) -> dict[str, Any]:
    return {name: getattr(placement, name) for name in PlacementOut.model_fields}
