"""Placements: each seat taken counts in its group's unit. Pure.

A fact holds the member's seats by group id (`seat_<group>`: the group's unit, None once it was freed), under
one sequence per member. A member who waits is not counted: one who leaves while waiting frees no seat, so no
event of this subject tells it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from services.analytics.core.counting import Count, EventMapping, Projection, flow
from services.analytics.core.facts import LISTED, SEAT, Fact, Statement
from services.shared.contracts.groups import (
    GroupInviteLapsed,
    GroupMemberAssigned,
    GroupMemberObserved,
    GroupMemberRedrawn,
    GroupMemberRemoved,
    GroupMemberWaiting,
    ObservationSnapshot,
    PlacementSnapshot,
)
from services.shared.contracts.vocabulary import GroupKind

OWNS: Final = ("groups.taken", "placements.")


def seats(fact: Fact) -> dict[str, str]:
    """The seats that the member holds: group id -> the group's unit."""
    return {
        name.removeprefix(SEAT): unit
        for name, unit in fact.values.items()
        if name.startswith(SEAT) and unit is not None
    }


def counted(fact: Fact) -> Iterator[Count]:
    for unit in seats(fact).values():
        yield unit, "groups.taken", 1


def _assigned(event: GroupMemberAssigned | GroupMemberRedrawn) -> Statement:
    return {f"{SEAT}{event.group_id}": event.unit}


def _removed(event: GroupMemberRemoved) -> Statement:
    return {f"{SEAT}{event.group_id}": None}


def _nothing(
    _: GroupMemberWaiting | GroupMemberObserved | GroupInviteLapsed | ObservationSnapshot,
) -> Statement:
    """The sequence alone: without it there would be gaps."""
    return {}


def _snapshot(event: PlacementSnapshot) -> Statement:
    taken = {f"{SEAT}{event.group_id}": event.unit} if event.group_id else {}
    others = {f"{SEAT}{seat.group_id}": seat.unit for seat in event.seats if seat.group_id}
    return {LISTED: True, **others, **taken}


PLACEMENTS = Projection(
    "placements",
    2,
    OWNS,
    counted,
    {
        GroupMemberAssigned: EventMapping(_assigned, flow("placements.assigned")),
        GroupMemberRedrawn: EventMapping(_assigned),
        GroupMemberWaiting: EventMapping(_nothing, flow("placements.waiting")),
        GroupMemberRemoved: EventMapping(_removed, flow("placements.removed")),
        GroupMemberObserved: EventMapping(_nothing),
        GroupInviteLapsed: EventMapping(_nothing),
        ObservationSnapshot: EventMapping(_nothing),
        PlacementSnapshot: EventMapping(_snapshot, whole=True),
    },
)


def _counted_once(fact: Fact) -> Iterator[Count]:
    if fact.get("state") == "taken":
        yield fact["unit"], "groups.taken", 1


def _assigned_once(event: GroupMemberAssigned | GroupMemberRedrawn) -> Statement:
    if event.rule != GroupKind.GENERAL:
        return {}
    return {"state": "taken", "unit": event.unit, "group": event.group_id}


def _waiting_once(event: GroupMemberWaiting) -> Statement:
    if event.rule != GroupKind.GENERAL:
        return {}
    return {"state": "waiting", "unit": event.unit, "group": None}


def _removed_once(event: GroupMemberRemoved) -> Statement:
    if event.rule != GroupKind.GENERAL:
        return {}
    return {"state": "none", "unit": event.unit, "group": None}


def _snapshot_once(event: PlacementSnapshot) -> Statement:
    waiting = "waiting" if event.state.startswith("waiting_") else "none"
    return {"state": "taken" if event.group_id else waiting, "unit": event.unit, "group": event.group_id}


ONE_SEAT = Projection(
    "placements",
    1,
    OWNS,
    _counted_once,
    {
        GroupMemberAssigned: EventMapping(_assigned_once, flow("placements.assigned")),
        GroupMemberRedrawn: EventMapping(_assigned_once),
        GroupMemberWaiting: EventMapping(_waiting_once, flow("placements.waiting")),
        GroupMemberRemoved: EventMapping(_removed_once, flow("placements.removed")),
        PlacementSnapshot: EventMapping(_snapshot_once, whole=True),
    },
)
"""The first release's, which counts the general seat alone. It follows until version 2 is built."""
