"""Events of the groups service: units, groups, and where each member is placed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field

from services.shared.contracts.base import Event
from services.shared.contracts.erasure import ErasureAcknowledged
from services.shared.contracts.vocabulary import (
    Attempts,
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
    Words,
)

TOPIC = "sangathan.groups"
MAX_RULES = 16
"""Rules of a policy, and so seats of one member."""
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
    """The capacity, the name or the unit changed, or whether the group takes members: `retired` is null while
    it does and `closing` while it is emptied, or until it has no more than `shrinks_to` members. The event
    does not carry the name: read it through the API."""

    group_id: Id
    unit: EventUnit
    kind: Word
    ordinal: Ordinal
    capacity: Seats
    retired: Word | None = None
    shrinks_to: Seats | None = None


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


class GroupArchived(Event, type="group.archived", topic=TOPIC, subject="group_id"):
    """The group is empty and takes nobody any more; its id and ordinal are not used again."""

    group_id: Id
    unit: EventUnit
    kind: Word
    ordinal: Ordinal


class GroupMemberAssigned(Event, type="group.member_assigned", topic=TOPIC, subject="member_id"):
    """A seat was reserved for the member, by the `rule` of the placement policy: at most one by each rule.
    `member_sequence` is the version of the member that this placement answers; 0 means not known. An answer
    may take several events; `completes` marks the last of them. `unit` is the group's, and `member_unit` the
    member's if that is another."""

    member_id: Id
    group_id: Id
    unit: EventUnit
    kind: Word
    ordinal: Ordinal
    invite_ready: bool
    member_sequence: Sequence = 0
    rule: Word = "general"
    completes: bool = True
    member_unit: EventUnit | None = None


class GroupMemberWaiting(Event, type="group.member_waiting", topic=TOPIC, subject="member_id"):
    """The member has no seat by this rule yet; `reason` says why. `unit` is where it would be. The other
    fields are as in `group.member_assigned`."""

    member_id: Id
    unit: EventUnit
    reason: Literal["waiting_unit", "waiting_seat"]
    member_sequence: Sequence = 0
    rule: Word = "general"
    kind: Word = "general"
    completes: bool = True
    member_unit: EventUnit | None = None


class GroupMemberRemoved(Event, type="group.member_removed", topic=TOPIC, subject="member_id"):
    """The member's seat was freed: for another by the same rule (`moved`), or for none (`left`). With
    `unplaced` the member is one still, but this rule has no seat for them any more. The other fields are as
    in `group.member_assigned`."""

    member_id: Id
    group_id: Id
    unit: EventUnit
    kind: Word
    ordinal: Ordinal
    reason: Literal["moved", "left"]
    member_sequence: Sequence = 0
    rule: Word = "general"
    unplaced: bool = False
    completes: bool = True
    member_unit: EventUnit | None = None


class PolicyRule(BaseModel):
    """A rule of the placement policy. `at` says where its group is: `own` (the unit itself), `above` (the
    unit above it) or a level. The other fields are conditions; with `role`, the unit is the role's."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: Word
    kind: Word
    at: Word
    gender: Word | None = None
    consent: Word | None = None
    role: Word | None = None


class PolicyCap(BaseModel):
    """The seats of a new group of this kind, and how many groups of it a unit may have (null: any number)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Word
    capacity: Seats
    groups: Ordinal | None = None


class PolicyApplied(Event, type="policy.applied", topic=TOPIC, subject="policy"):
    """A placement policy is in force: from now on events are answered by it, and a job re-places those who
    were placed by an earlier one. `levels` are the levels of units that have groups, `tree` all levels that
    the tree has, from the root (empty: the four that ship). The sequence is the policy's version."""

    policy: Word = "placement"
    levels: Words
    kinds: Annotated[tuple[PolicyCap, ...], Field(max_length=MAX_RULES), FailFast()]
    rules: Annotated[tuple[PolicyRule, ...], Field(max_length=MAX_RULES), FailFast()]
    tree: Words = ()


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


class GroupMemberRedrawn(Event, type="group.member_redrawn", topic=TOPIC, subject="member_id"):
    """The member's unit or the group's became another one in the tree. The seat is the same, in the same
    group, which is of `unit` now; the member is of `member_unit`. `meant` is the unit in which the rule gives
    the seat, where the group is of another one, as after a split. The other fields are as in
    `group.member_assigned`."""

    member_id: Id
    group_id: Id
    unit: EventUnit
    member_unit: EventUnit
    kind: Word
    ordinal: Ordinal
    member_sequence: Sequence = 0
    rule: Word = "general"
    meant: EventUnit | None = None
    completes: bool = True


class GroupSnapshot(Event, type="group.snapshot", topic=TOPIC, subject="group_id"):
    """The current state of the group, for a consumer that has lost its own state; nothing happened.
    `retired` is null while the group takes members, else `closing` or `archived`; `shrinks_to` is as in
    `group.updated`."""

    group_id: Id
    unit: EventUnit
    kind: Word
    ordinal: Ordinal
    capacity: Seats
    invite_ready: bool
    retired: Word | None = None
    shrinks_to: Seats | None = None


class SeatHeld(BaseModel):
    """A member's seat, or place in a waiting list, by a rule other than `general`. `meant` is as in
    `group.member_redrawn`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    rule: Word
    kind: Word
    unit: EventUnit
    state: Word
    since: PastTime
    group_id: Id | None = None
    ordinal: Ordinal | None = None
    meant: EventUnit | None = None


class PlacementSnapshot(Event, type="placement.snapshot", topic=TOPIC, subject="member_id"):
    """The current placement of the member, for a consumer that has lost its own state; nothing happened.
    `group_id` is null while the member waits and after the member has left. `seats` are those by other rules
    than `general`; `unit` and `member_unit` are as in `group.member_assigned`, and `meant` is as in
    `group.member_redrawn`."""

    member_id: Id
    unit: EventUnit
    state: Word
    group_id: Id | None = None
    kind: Word
    ordinal: Ordinal | None = None
    since: PastTime
    member_sequence: Sequence = 0
    member_unit: EventUnit | None = None
    seats: Annotated[tuple[SeatHeld, ...], Field(max_length=MAX_RULES), FailFast()] = ()
    meant: EventUnit | None = None


class GroupsErasureAcknowledged(
    ErasureAcknowledged, type="groups.erasure_acknowledged", topic=TOPIC, subject="erasure_id"
):
    """Groups has freed the member's seat. `group_ids` are the groups in which it was: an admin must
    remove the person from the chat group."""

    group_ids: Annotated[tuple[Id, ...], Field(max_length=32), FailFast()] = ()
