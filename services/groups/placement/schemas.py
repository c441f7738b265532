"""HTTP schemas of placements."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from services.groups.core.domain import Group, Placement, PlacementState


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


class PlacementHeld(PlacementOut):
    """A placement with its group's name, as the member sees it, and how many changes it has had."""

    group_name: dict[str, str] | None
    changes: int


class HoldingsOut(BaseModel):
    """All that this service holds about a member: where they are placed now. Earlier places are not kept."""

    member_id: str
    placement: PlacementHeld | None


class WaitingOut(BaseModel):
    """A member who waits, `since` when, for `unit`, which does not exist."""

    member_id: str
    unit: str
    state: PlacementState
    since: datetime


def waiting_out(placement: Placement) -> dict[str, Any]:
    return {name: getattr(placement, name) for name in WaitingOut.model_fields}


def holdings_out(member_id: str, placement: Placement | None, group: Group | None) -> dict[str, Any]:
    held = None
    if placement is not None:
        name = dict(group.name) if group else None
        held = {**placement_out(placement), "group_name": name, "changes": placement.sequence}
    return {"member_id": member_id, "placement": held}


def placement_out(placement: Placement) -> dict[str, Any]:
    return {name: getattr(placement, name) for name in PlacementOut.model_fields}
