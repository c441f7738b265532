"""What each event states about its subject, and what it adds to its day. Pure, one function an event type."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from services.analytics.domain import Flow, Statement, rollup, word
from services.shared.contracts.base import Envelope
from services.shared.contracts.groups import (
    GroupCreated,
    GroupFilled,
    GroupInviteChanged,
    GroupMemberAssigned,
    GroupMemberRemoved,
    GroupMemberWaiting,
    GroupSnapshot,
    GroupUpdated,
    PlacementSnapshot,
    UnitUpserted,
)
from services.shared.contracts.members import (
    MemberJoined,
    MemberLeft,
    MemberMoved,
    MemberSnapshot,
    MemberUpdated,
)
from services.shared.contracts.notifications import (
    NotificationFailed,
    NotificationQueued,
    NotificationSent,
    NotificationSnapshot,
    NotificationSuppressed,
)
from services.shared.contracts.vocabulary import Purpose

Flows: TypeAlias = Callable[[Envelope[Any]], Iterator[Flow]]
AnyNotification: TypeAlias = (
    NotificationQueued | NotificationSuppressed | NotificationSent | NotificationFailed
)
DescribedGroup: TypeAlias = GroupCreated | GroupUpdated | GroupFilled


def member_joined(event: MemberJoined) -> Statement:
    return {**_profile(event), "joined": True}


def member_updated(event: MemberUpdated) -> Statement:
    return _profile(event)


def member_moved(event: MemberMoved) -> Statement:
    return {"unit": event.unit}


def member_left(event: MemberLeft) -> Statement:
    return {"unit": event.unit, "left": True}


def member_snapshot(event: MemberSnapshot) -> Statement:
    return {**_profile(event), "joined": True, "left": event.status == "left"}


def _profile(event: MemberJoined | MemberUpdated | MemberSnapshot) -> Statement:
    return {
        "unit": event.unit,
        "gender": event.gender.value,
        "language": word(event.language),
        "platforms": sorted({word(platform) for platform in event.platforms}),
    }


def member_assigned(event: GroupMemberAssigned) -> Statement:
    return {"state": "taken", "unit": event.unit, "group": event.group_id}


def member_waiting(event: GroupMemberWaiting) -> Statement:
    return {"state": "waiting", "unit": event.unit, "group": None}


def member_removed(event: GroupMemberRemoved) -> Statement:
    return {"state": "none", "unit": event.unit, "group": None}


def placement_snapshot(event: PlacementSnapshot) -> Statement:
    waiting = "waiting" if event.state.startswith("waiting_") else "none"
    return {"state": "taken" if event.group_id else waiting, "unit": event.unit, "group": event.group_id}


def group_described(event: DescribedGroup) -> Statement:
    return {"unit": event.unit, "kind": event.kind, "seats": event.capacity}


def group_invite_changed(event: GroupInviteChanged) -> Statement:
    return {"unit": event.unit, "live": event.invite_ready}


def group_snapshot(event: GroupSnapshot) -> Statement:
    return {"unit": event.unit, "kind": event.kind, "seats": event.capacity, "live": event.invite_ready}


def unit_upserted(event: UnitUpserted) -> Statement:
    return {"level": event.level, "women_target": event.women_target}


def notification(state: str) -> Callable[[AnyNotification], Statement]:
    def states(event: AnyNotification) -> Statement:
        return {"state": state, "unit": event.unit, "purpose": event.purpose}

    return states


def notification_snapshot(event: NotificationSnapshot) -> Statement:
    return {"state": word(event.state), "unit": event.unit, "purpose": event.purpose}


def no_flows(_: Envelope[Any]) -> Iterator[Flow]:
    yield from ()


def joined_flows(event: Envelope[MemberJoined | MemberSnapshot]) -> Iterator[Flow]:
    """By the day the member joined, which for an import is not the day of the event."""
    yield "members.joined", event.data.joined_at, rollup(event.data.unit)


def moved_flows(event: Envelope[MemberMoved]) -> Iterator[Flow]:
    """A move within a unit is neither in nor out of it."""
    before, after = rollup(event.data.from_unit), rollup(event.data.unit)
    yield "members.moved_in", event.time, set(after) - set(before)
    yield "members.moved_out", event.time, set(before) - set(after)


def flow(metric: str) -> Flows:
    """One more of `metric` at the event's unit, when it happened."""

    def flows(event: Envelope[Any]) -> Iterator[Flow]:
        yield metric, event.time, rollup(event.data.unit)

    return flows


def welcome_flow(metric: str) -> Flows:
    """The same, for notifications that are welcomes."""

    def flows(event: Envelope[AnyNotification]) -> Iterator[Flow]:
        if event.data.purpose == Purpose.WELCOME:
            yield metric, event.time, rollup(event.data.unit)

    return flows
