"""Placements: a seat taken counts in the group's unit. Pure.

A member who waits is not counted: one who leaves while waiting frees no seat, so no event of this subject
tells it.
"""

from __future__ import annotations

from collections.abc import Iterator

from services.analytics.core.counting import Count, EventMapping, Projection, flow
from services.analytics.core.facts import Fact, Statement
from services.shared.contracts.groups import (
    GroupMemberAssigned,
    GroupMemberRedrawn,
    GroupMemberRemoved,
    GroupMemberWaiting,
    PlacementSnapshot,
)


def counted(fact: Fact) -> Iterator[Count]:
    if fact["state"] == "taken":
        yield fact["unit"], "groups.taken", 1


def _assigned(event: GroupMemberAssigned | GroupMemberRedrawn) -> Statement:
    return {"state": "taken", "unit": event.unit, "group": event.group_id}


def _waiting(event: GroupMemberWaiting) -> Statement:
    return {"state": "waiting", "unit": event.unit, "group": None}


def _removed(event: GroupMemberRemoved) -> Statement:
    return {"state": "none", "unit": event.unit, "group": None}


def _snapshot(event: PlacementSnapshot) -> Statement:
    waiting = "waiting" if event.state.startswith("waiting_") else "none"
    return {"state": "taken" if event.group_id else waiting, "unit": event.unit, "group": event.group_id}


PLACEMENTS = Projection(
    "placements",
    counted,
    {
        GroupMemberAssigned: EventMapping(_assigned, flow("placements.assigned")),
        GroupMemberRedrawn: EventMapping(_assigned),
        GroupMemberWaiting: EventMapping(_waiting, flow("placements.waiting")),
        GroupMemberRemoved: EventMapping(_removed, flow("placements.removed")),
        PlacementSnapshot: EventMapping(_snapshot, whole=True),
    },
)
