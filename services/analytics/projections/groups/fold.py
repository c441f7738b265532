"""Groups: each counts once its size is known; it is live while it has an invite link. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from services.analytics.core.counting import OWN, Count, EventMapping, Projection
from services.analytics.core.facts import Fact, Statement
from services.shared.contracts.groups import (
    GroupArchived,
    GroupCreated,
    GroupFilled,
    GroupInviteChanged,
    GroupSnapshot,
    GroupUpdated,
)


def counted(fact: Fact) -> Iterator[Count]:
    if fact.get("seats") is None:
        return
    yield fact["unit"], "groups.total", 1
    yield fact["unit"], "groups.seats", fact["seats"]
    if fact.get("live"):
        yield fact["unit"], "groups.live", 1
        yield fact["unit"], f"{OWN}live", 1


def _described(event: GroupCreated | GroupUpdated | GroupFilled) -> Statement:
    return {"unit": event.unit, "kind": event.kind, "seats": event.capacity}


def _invite_changed(event: GroupInviteChanged) -> Statement:
    return {"unit": event.unit, "live": event.invite_ready}


def _snapshot(event: GroupSnapshot) -> Statement:
    seats = None if event.retired == "archived" else event.capacity
    return {"unit": event.unit, "kind": event.kind, "seats": seats, "live": event.invite_ready}


def _archived(event: GroupArchived) -> Statement:
    return {"unit": event.unit, "kind": event.kind, "seats": None, "live": False}


GROUPS = Projection(
    "groups",
    1,
    ("groups.total", "groups.seats", "groups.live", "own.live"),
    counted,
    {
        GroupCreated: EventMapping(_described),
        GroupUpdated: EventMapping(_described),
        GroupFilled: EventMapping(_described),
        GroupInviteChanged: EventMapping(_invite_changed),
        GroupArchived: EventMapping(_archived),
        GroupSnapshot: EventMapping(_snapshot, whole=True),
    },
)
