"""HTTP schemas of placements."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from services.groups.core.domain import GENERAL, Group, Placement, PlacementState, Seat
from services.shared.contracts.vocabulary import Gender


class PlacementOut(BaseModel):
    """A seat of a member, by which rule of the policy. `group_id` and `ordinal` are null while waiting and
    after leaving; `unit` is the group's."""

    group_id: str | None
    unit: str
    kind: str
    ordinal: int | None
    state: PlacementState
    since: datetime
    rule: str


class PlacementsOut(BaseModel):
    items: list[PlacementOut]


class PlacementHeld(PlacementOut):
    """A placement with its group's name, as the member sees it, and how many changes it has had."""

    group_name: dict[str, str] | None
    changes: int


class RoleHeldOut(BaseModel):
    role: str
    unit: str


class FactsHeld(BaseModel):
    """The facts that the policy asks about a member. `group_consent` is to be in chat groups."""

    gender: str
    group_consent: bool
    roles: list[RoleHeldOut]


class HoldingsOut(BaseModel):
    """All that this service holds about a member: where they are placed now, in the general group
    (`placement`) and in others (`seats`), and what decides on it: `facts` (null: not heard yet). Earlier
    places are not kept."""

    member_id: str
    placement: PlacementHeld | None
    seats: list[PlacementHeld]
    facts: FactsHeld | None


class WaitingOut(BaseModel):
    """A member who waits, `since` when, for `unit`, which does not exist."""

    member_id: str
    unit: str
    state: PlacementState
    since: datetime


def waiting_out(placement: Placement) -> dict[str, Any]:
    return {name: getattr(placement, name) for name in WaitingOut.model_fields}


def holdings_out(member_id: str, placement: Placement | None, groups: Mapping[str, Group]) -> dict[str, Any]:
    if placement is None:
        return {"member_id": member_id, "placement": None, "seats": [], "facts": None}
    general, *others = [
        {
            **seat,
            "group_name": dict(groups[seat["group_id"]].name) if seat["group_id"] in groups else None,
            "changes": placement.sequence,
        }
        for seat in seats_out(placement)
    ]
    facts = placement.facts
    roles = [{"role": role.role, "unit": role.unit} for role in facts.roles or ()] if facts else []
    shown = (
        {
            "gender": facts.gender or Gender.UNDISCLOSED.value,
            "group_consent": bool(facts.asked),
            "roles": roles,
        }
        if facts
        else None
    )
    return {"member_id": member_id, "placement": general, "seats": others, "facts": shown}


def seats_out(placement: Placement) -> list[dict[str, Any]]:
    """The general seat first, also of a member who has none."""
    unit = placement.group_unit or placement.unit
    general = Seat(
        GENERAL, placement.kind, unit, placement.state, placement.since, placement.group_id, placement.ordinal
    )
    return [
        {name: getattr(seat, name) for name in PlacementOut.model_fields}
        for seat in (general, *(placement.seats or ()))
    ]
