"""Events of the groups service: units, groups and where each member is placed."""

from __future__ import annotations

from typing import Literal

from services.shared.contracts.base import Event

TOPIC = "sangathan.groups"


class UnitUpserted(Event, type="unit.upserted", topic=TOPIC, subject="unit"):
    """A unit was created or changed. `women_target` is a share from 0 to 1."""

    unit: str
    level: str
    parent: str | None = None
    women_target: float | None = None


class GroupCreated(Event, type="group.created", topic=TOPIC, subject="group_id"):
    """`ordinal` counts a unit's groups of one kind from 1; `capacity` is in seats."""

    group_id: str
    unit: str
    kind: str
    ordinal: int
    capacity: int


class GroupUpdated(Event, type="group.updated", topic=TOPIC, subject="group_id"):
    """The capacity or the name changed; the name itself is read through the API."""

    group_id: str
    unit: str
    kind: str
    ordinal: int
    capacity: int


class GroupInviteChanged(Event, type="group.invite_changed", topic=TOPIC, subject="group_id"):
    """The invite link was set, replaced or withdrawn. The link admits its holder, so it is not in the log."""

    group_id: str
    unit: str
    invite_ready: bool


class GroupFilled(Event, type="group.filled", topic=TOPIC, subject="group_id"):
    """The last seat was taken."""

    group_id: str
    unit: str
    kind: str
    ordinal: int
    capacity: int


class GroupMemberAssigned(Event, type="group.member_assigned", topic=TOPIC, subject="member_id"):
    """A seat was reserved for the member."""

    member_id: str
    group_id: str
    unit: str
    kind: str
    ordinal: int
    invite_ready: bool


class GroupMemberWaiting(Event, type="group.member_waiting", topic=TOPIC, subject="member_id"):
    """No seat yet, and why."""

    member_id: str
    unit: str
    reason: Literal["waiting_unit", "waiting_seat"]


class GroupMemberRemoved(Event, type="group.member_removed", topic=TOPIC, subject="member_id"):
    """The seat was freed, and why."""

    member_id: str
    group_id: str
    unit: str
    kind: str
    ordinal: int
    reason: Literal["moved", "left"]
