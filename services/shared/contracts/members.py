"""Events of the members service. They hold no name, phone, e-mail or free text: only ids, unit codes and
coarse attributes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field

from services.shared.contracts.base import Event
from services.shared.contracts.vocabulary import (
    AnyTime,
    EventUnit,
    Gender,
    Id,
    LanguageCode,
    Ordinal,
    PastTime,
    Word,
    Words,
)

TOPIC = "sangathan.members"
MAX_ROLES = 32
"""Roles that one member may hold, also those that begin later."""


class _Member(Event):
    member_id: Id
    unit: EventUnit
    gender: Gender
    language: LanguageCode
    platforms: Words = ()
    roles: Words = ()
    joined_at: PastTime
    inviter_id: Id | None = None
    channels: Words = ()
    origin: Word = "registration"
    announced: bool = True
    own_number: bool = True
    """False for somebody who is reached through another member: no seat, and no message."""
    group_consent: bool = False
    """Whether the member consents to be in chat groups (purpose `group`), on any channel."""
    adult: bool | None = None
    """Whether the member is surely 18 by the year of birth. False: may be a minor. Null: not known, or not
    told."""


class MemberJoined(_Member, type="member.joined", topic=TOPIC, subject="member_id"):
    """A person was registered as a member, or came with an import (`origin`). `channels` are the channels
    consented to for the welcome, in order of preference; there are none, and `announced` is false, for a
    member whom nobody is to welcome."""


class MemberUpdated(Event, type="member.updated", topic=TOPIC, subject="member_id"):
    """The member's attributes after a change. `contact_changed` says that a cached contact is stale. With
    `own_number` a member has a seat, without it none: a member may be given a number, and undoing a merge may
    take one back. `adult` is as in `member.joined`; it is published too when a member comes of age."""

    member_id: Id
    unit: EventUnit
    gender: Gender
    language: LanguageCode
    platforms: Words = ()
    contact_changed: bool = False
    own_number: bool = True
    adult: bool | None = None


REDRAWN = "redrawn"
"""The cause of a move that nobody made: the member's unit was merged, split or moved in the tree."""


class MemberMoved(Event, type="member.moved", topic=TOPIC, subject="member_id"):
    """The member's unit changed. `cause` says why: `move`, or `redrawn` when the unit itself became another
    one. A redrawn member keeps every seat, and nobody is welcomed."""

    member_id: Id
    from_unit: EventUnit
    unit: EventUnit
    own_number: bool = True
    cause: Word = "move"


class MemberLeft(Event, type="member.left", topic=TOPIC, subject="member_id"):
    """The member left; the phone number is free again."""

    member_id: Id
    unit: EventUnit
    reason: Literal["left"] = "left"


class MemberConsentChanged(Event, type="member.consent_changed", topic=TOPIC, subject="member_id"):
    """The member gave or withdrew (`state` is `given` or `withdrawn`) the consent to be reached on `channel`
    for `purpose`; what was never given may be withdrawn too. `channels` are all the channels that are
    consented to for the welcome after it, in order of preference; `announced` is false if no welcome is to be
    made of it. `group_consent` says whether, after it, the member consents to be in chat groups (purpose
    `group`) on any channel; null: not told."""

    member_id: Id
    unit: EventUnit
    purpose: Word
    channel: Word
    state: Word
    channels: Words = ()
    announced: bool = True
    group_consent: bool | None = None


class RoleInUnit(BaseModel):
    """A role in a unit."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Word
    unit: EventUnit


class RoleHeld(BaseModel):
    """A role in a unit, in effect from `since` and before `until` (null: without an end)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Word
    unit: EventUnit
    since: AnyTime
    until: AnyTime | None = None


class MemberRolesChanged(Event, type="member.roles_changed", topic=TOPIC, subject="member_id"):
    """The roles in effect changed, or the time for which one is held. `roles` are all of them after it; who
    left holds none, whatever was published before."""

    member_id: Id
    unit: EventUnit
    roles: Annotated[tuple[RoleHeld, ...], Field(max_length=MAX_ROLES), FailFast()] = ()


class MemberMerged(_Member, type="member.merged", topic=TOPIC, subject="member_id"):
    """The member was found to be the same person as `into`, who stands for both from now on: this one has no
    seat, gets no message and is not counted. Whatever else the merge changed of `into` is told by events of
    that subject. The fields are this member's last state."""

    into: Id


class MemberUnmerged(_Member, type="member.unmerged", topic=TOPIC, subject="member_id"):
    """A merge was undone: the member is one of their own again, as the fields say, and is not welcomed.
    `status` is `active`, or `left` for one who had left before."""

    into: Id
    status: Word = "active"


class MemberSnapshot(_Member, type="member.snapshot", topic=TOPIC, subject="member_id"):
    """The current state of the member, for a consumer that has lost its own state; nothing happened.
    `channels` are the channels consented to for the welcome. A member who was merged (`merged_into`) has the
    status `left`. `roles_held` are the roles in effect with their units; null: not told."""

    status: Literal["active", "left"]
    merged_into: Id | None = None
    roles_held: Annotated[tuple[RoleInUnit, ...] | None, Field(max_length=MAX_ROLES)] = None


class MemberErasureRequested(Event, type="member.erasure_requested", topic=TOPIC, subject="member_id"):
    """The member is to be erased and is out of use from now on, as one who left. Whoever keeps something of
    them destroys it and acknowledges. `status` is the member's before the first request; a request that is
    not acknowledged is published again, with the next `attempt`."""

    member_id: Id
    unit: EventUnit
    erasure_id: Id
    status: Word = "active"
    attempt: Ordinal = 1


class MemberErased(Event, type="member.erased", topic=TOPIC, subject="member_id"):
    """Nothing is kept of the member any more but this id."""

    member_id: Id
    unit: EventUnit
    erasure_id: Id
