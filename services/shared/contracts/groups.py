"""Events of the groups service: units, groups, and where each member is placed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import FailFast, Field

from services.shared.contracts.base import Event
from services.shared.contracts.erasure import ErasureAcknowledged
from services.shared.contracts.vocabulary import (
    Attempts,
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


class UnitUpserted(Event, type="unit.upserted", topic=TOPIC, subject="unit"):
    """A unit was created or changed; also published again without a change. `women_target` is a share from 0
    to 1; `names` are the place's names by language code."""

    unit: EventUnit
    level: Word
    parent: EventUnit | None = None
    women_target: Share | None = None
    names: PlaceNames | None = None


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


class GroupMemberObserved(Event, type="group.member_observed", topic=TOPIC, subject="member_id"):
    """A roster of the chat group shows that the member is in it (`joined`), or no longer (`left`). `kind` is
    the group's. `observed_at` is when the roster was taken."""

    member_id: Id
    group_id: Id
    unit: EventUnit
    kind: Word
    state: Literal["joined", "left"]
    observed_at: PastTime


class GroupInviteLapsed(Event, type="group.invite_lapsed", topic=TOPIC, subject="member_id"):
    """The member has a seat in the chat group but is not in it, and is to be invited again: `cause` is
    `never_came` (the invite was not taken in time) or `link_reset` (it no longer works). `attempt` counts
    these invites of the member to the group."""

    member_id: Id
    group_id: Id
    unit: EventUnit
    kind: Word
    attempt: Ordinal
    cause: Word


class ObservationSnapshot(Event, type="observation.snapshot", topic=TOPIC, subject="member_id"):
    """The state of a member in a chat group as rosters have shown it, for a consumer that has lost its own
    state; nothing happened. The sequence is that of the last `group.member_observed` or
    `group.invite_lapsed` about the two. `state` is null if no roster has shown the member."""

    member_id: Id
    group_id: Id
    unit: EventUnit
    kind: Word
    state: Literal["joined", "left"] | None = None
    observed_at: PastTime | None = None
    attempts: Attempts = 0


class GroupAdminsChanged(Event, type="group.admins_changed", topic=TOPIC, subject="group_id"):
    """The number of people who run the chat group changed; `admins` counts them."""

    group_id: Id
    unit: EventUnit
    kind: Word
    ordinal: Ordinal
    admins: Attempts


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
