"""Events of the groups service: units, groups, and where each member is placed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import FailFast, Field

from services.shared.contracts.base import Event
from services.shared.contracts.erasure import ErasureAcknowledged
from services.shared.contracts.vocabulary import (
    Constituency,
    EventUnit,
    Id,
    Ordinal,
    PastTime,
    PlaceNames,
    Seats,
    Sequence,
    Share,
    Word,
)

TOPIC = "sangathan.groups"
MAX_SUCCESSORS = 64
"""Units that one unit may be split into."""


class UnitUpserted(Event, type="unit.upserted", topic=TOPIC, subject="unit"):
    """A unit was created or changed; also published again without a change. `women_target` is a share from 0
    to 1; `names` are the place's names by language code; `constituency` is the number of the assembly
    constituency in which it lies, if that is known."""

    unit: EventUnit
    level: Word
    parent: EventUnit | None = None
    women_target: Share | None = None
    names: PlaceNames | None = None
    constituency: Constituency | None = None


class UnitSucceeded(Event, type="unit.succeeded", topic=TOPIC, subject="unit"):
    """The unit is retired: its code is never used again, and what it was are its `successors` now. One: it
    was moved, or merged with others, and whatever is its follows. Several: it was split, and who belongs to
    which is told member by member. None: it was given up, with nobody in it."""

    unit: EventUnit
    successors: Annotated[tuple[EventUnit, ...], Field(max_length=MAX_SUCCESSORS), FailFast()] = ()
    redrawing_id: Id


class GroupCreated(Event, type="group.created", topic=TOPIC, subject="group_id"):
    """A group was created. `ordinal` counts a unit's groups of one kind from 1; `capacity` is in seats."""

    group_id: Id
    unit: EventUnit
    kind: Word
    ordinal: Ordinal
    capacity: Seats


class GroupUpdated(Event, type="group.updated", topic=TOPIC, subject="group_id"):
    """The capacity or the name changed. The event does not carry the name: read it through the API."""

    group_id: Id
    unit: EventUnit
    kind: Word
    ordinal: Ordinal
    capacity: Seats


class GroupInviteChanged(Event, type="group.invite_changed", topic=TOPIC, subject="group_id"):
    """The invite link was set, replaced or withdrawn. The link admits anyone who has it, so it is not in the
    event."""

    group_id: Id
    unit: EventUnit
    invite_ready: bool


class GroupFilled(Event, type="group.filled", topic=TOPIC, subject="group_id"):
    """The last seat was taken."""

    group_id: Id
    unit: EventUnit
    kind: Word
    ordinal: Ordinal
    capacity: Seats


class GroupMemberAssigned(Event, type="group.member_assigned", topic=TOPIC, subject="member_id"):
    """A seat was reserved for the member. `member_sequence` is the version of the member that this placement
    answers; 0 means not known."""

    member_id: Id
    group_id: Id
    unit: EventUnit
    kind: Word
    ordinal: Ordinal
    invite_ready: bool
    member_sequence: Sequence = 0


class GroupMemberWaiting(Event, type="group.member_waiting", topic=TOPIC, subject="member_id"):
    """The member has no seat yet; `reason` says why. `member_sequence` as in `group.member_assigned`."""

    member_id: Id
    unit: EventUnit
    reason: Literal["waiting_unit", "waiting_seat"]
    member_sequence: Sequence = 0


class GroupMemberRemoved(Event, type="group.member_removed", topic=TOPIC, subject="member_id"):
    """The member's seat was freed; `reason` says why. `member_sequence` as in `group.member_assigned`."""

    member_id: Id
    group_id: Id
    unit: EventUnit
    kind: Word
    ordinal: Ordinal
    reason: Literal["moved", "left"]
    member_sequence: Sequence = 0


class GroupMemberRedrawn(Event, type="group.member_redrawn", topic=TOPIC, subject="member_id"):
    """The member's unit or the group's became another one in the tree. The seat is the same, in the same
    group, which is of `unit` now; the member is of `member_unit`, which is another one after a split.
    `member_sequence` as in `group.member_assigned`."""

    member_id: Id
    group_id: Id
    unit: EventUnit
    member_unit: EventUnit
    kind: Word
    ordinal: Ordinal
    member_sequence: Sequence = 0


class GroupSnapshot(Event, type="group.snapshot", topic=TOPIC, subject="group_id"):
    """The current state of the group, for a consumer that has lost its own state; nothing happened."""

    group_id: Id
    unit: EventUnit
    kind: Word
    ordinal: Ordinal
    capacity: Seats
    invite_ready: bool


class PlacementSnapshot(Event, type="placement.snapshot", topic=TOPIC, subject="member_id"):
    """The current placement of the member, for a consumer that has lost its own state; nothing happened.
    `group_id` is null while the member waits and after the member has left."""

    member_id: Id
    unit: EventUnit
    state: Word
    group_id: Id | None = None
    kind: Word
    ordinal: Ordinal | None = None
    since: PastTime
    member_sequence: Sequence = 0


class GroupsErasureAcknowledged(
    ErasureAcknowledged, type="groups.erasure_acknowledged", topic=TOPIC, subject="erasure_id"
):
    """Groups has freed the member's seat. `group_ids` are the groups in which it was: an admin must
    remove the person from the chat group."""

    group_ids: Annotated[tuple[Id, ...], Field(max_length=32), FailFast()] = ()
