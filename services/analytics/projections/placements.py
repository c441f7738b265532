"""Placements: a seat taken counts in the group's unit. Pure.

A member who waits is not counted: one who leaves while waiting frees no seat, so no event of this subject
tells it. The general seat has fields of its own, as in the first release; a seat by another rule of the
placement policy is one field, of which a member has at most one for each rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from services.analytics.core.counting import Count, EventMapping, Projection, flow
from services.analytics.core.facts import Fact, Statement, word
from services.shared.contracts.groups import (
    GroupMemberAssigned,
    GroupMemberRemoved,
    GroupMemberWaiting,
    PlacementSnapshot,
)
from services.shared.contracts.vocabulary import GroupKind

GENERAL: Final = GroupKind.GENERAL.value
_SEAT: Final = "seat_"


def counted(fact: Fact) -> Iterator[Count]:
    if fact.get("state") == "taken":
        yield fact["unit"], "groups.taken", 1
    for name, seat in fact.values.items():
        if name.startswith(_SEAT) and seat is not None:
            yield seat["unit"], "groups.taken", 1


def _assigned(event: GroupMemberAssigned) -> Statement:
    if event.rule != GENERAL:
        return {_field(event.rule): {"unit": event.unit, "group": event.group_id}}
    return {"state": "taken", "unit": event.unit, "group": event.group_id}


def _waiting(event: GroupMemberWaiting) -> Statement:
    if event.rule != GENERAL:
        return {_field(event.rule): None}
    return {"state": "waiting", "unit": event.unit, "group": None}


def _removed(event: GroupMemberRemoved) -> Statement:
    if event.rule != GENERAL:
        return {_field(event.rule): None}
    return {"state": "none", "unit": event.unit, "group": None}


def _snapshot(event: PlacementSnapshot) -> Statement:
    waiting = "waiting" if event.state.startswith("waiting_") else "none"
    others = {
        _field(seat.rule): {"unit": seat.unit, "group": seat.group_id} if seat.group_id else None
        for seat in event.seats
    }
    state = "taken" if event.group_id else waiting
    return {"state": state, "unit": event.unit, "group": event.group_id, **others}


def _field(rule: str) -> str:
    return f"{_SEAT}{word(rule)}"


PLACEMENTS = Projection(
    "placements",
    counted,
    {
        GroupMemberAssigned: EventMapping(_assigned, flow("placements.assigned")),
        GroupMemberWaiting: EventMapping(_waiting, flow("placements.waiting")),
        GroupMemberRemoved: EventMapping(_removed, flow("placements.removed")),
        PlacementSnapshot: EventMapping(_snapshot, whole=True),
    },
)
