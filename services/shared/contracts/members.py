"""Events of the members service. They hold no name, phone, e-mail or free text: only ids, unit codes and
coarse attributes."""

from __future__ import annotations

from typing import Literal

from services.shared.contracts.base import Event
from services.shared.contracts.vocabulary import EventUnit, Gender, Id, LanguageCode, PastTime, Words

TOPIC = "sangathan.members"


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


class MemberJoined(_Member, type="member.joined", topic=TOPIC, subject="member_id"):
    """A person was registered as a member. `channels` are the channels consented to for the welcome, in order
    of preference."""


class MemberUpdated(Event, type="member.updated", topic=TOPIC, subject="member_id"):
    """The member's attributes after a change. `contact_changed` says that a cached contact is stale."""

    member_id: Id
    unit: EventUnit
    gender: Gender
    language: LanguageCode
    platforms: Words = ()
    contact_changed: bool = False


class MemberMoved(Event, type="member.moved", topic=TOPIC, subject="member_id"):
    """The member's unit changed."""

    member_id: Id
    from_unit: EventUnit
    unit: EventUnit


class MemberLeft(Event, type="member.left", topic=TOPIC, subject="member_id"):
    """The member left; the phone number is free again."""

    member_id: Id
    unit: EventUnit
    reason: Literal["left"] = "left"


class MemberSnapshot(_Member, type="member.snapshot", topic=TOPIC, subject="member_id"):
    """The current state of the member, for a consumer that has lost its own state; nothing happened.
    `channels` are the channels consented to for the welcome."""

    status: Literal["active", "left"]
