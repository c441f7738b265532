"""The rules of membership: joining, changing, moving, leaving; each change of a member is one version and one event.

Pure: the time, the id and the caller's rights come in as arguments. A member's name is part of `Member`; everything
that reaches a person (phone, e-mail, handles) is a `Contact`, which is kept sealed and apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeAlias

from services.shared.contracts.members import MemberJoined, MemberLeft, MemberMoved, MemberUpdated
from services.shared.contracts.vocabulary import Channel, Gender, Purpose

Event: TypeAlias = MemberJoined | MemberUpdated | MemberMoved | MemberLeft

OLDEST_YEARS: Final = 120
YOUNGEST_YEARS: Final = 13

# Plain strings: comparing members of enums is what a registration would spend its time on.
_CHANNELS: Final = tuple(channel.value for channel in Channel)
_EMAIL: Final = Channel.EMAIL.value
_WELCOME: Final = Purpose.WELCOME.value


class Status(StrEnum):
    ACTIVE = "active"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Contact:
    """How to reach a person. `handles` maps a platform to the person's name there."""

    phone: str
    email: str | None = None
    handles: Mapping[str, str] = field(default_factory=dict)

    def reached_by(self, channel: str) -> bool:
        return channel != _EMAIL or self.email is not None


@dataclass(frozen=True, slots=True)
class Consent:
    """One recorded answer: `notice` names the version of the text that was shown, `language` the one it was shown in."""

    purpose: str
    channel: str
    notice: str
    language: str
    at: datetime
    source: str = "registration"
    state: str = "given"


@dataclass(frozen=True, slots=True)
class Role:
    role: str
    unit: str


@dataclass(frozen=True, slots=True)
class Member:
    """A registered person at one version. `platforms` are those of the contact's handles, in the order given."""

    id: str
    name: str
    unit: str
    gender: str
    language: str
    joined_at: datetime
    updated_at: datetime
    birth_year: int | None = None
    platforms: tuple[str, ...] = ()
    roles: tuple[Role, ...] = ()
    consents: tuple[Consent, ...] = ()
    status: str = Status.ACTIVE.value
    inviter_id: str | None = None
    version: int = 1


@dataclass(frozen=True, slots=True)
class Application:
    """What someone asks to be registered as; already cleaned and normalised."""

    name: str
    unit: str
    contact: Contact
    gender: str
    language: str
    birth_year: int | None = None
    inviter_id: str | None = None
    consents: tuple[tuple[str, str, str, str], ...] = ()
    """`(purpose, channel, notice, language)` of each consent given."""


class HasLeft(Exception):
    """Who left is changed no more: they may join again, as a new member."""


def is_plausible_birth_year(year: int, now: datetime) -> bool:
    return now.year - OLDEST_YEARS <= year <= now.year - YOUNGEST_YEARS


def join(application: Application, member_id: str, now: datetime) -> tuple[Member, MemberJoined]:
    a = application
    member = Member(
        id=member_id,
        name=a.name,
        unit=a.unit,
        gender=a.gender,
        language=a.language,
        birth_year=a.birth_year,
        platforms=tuple(a.contact.handles),
        consents=tuple(Consent(*given, at=now) for given in a.consents),
        inviter_id=a.inviter_id,
        joined_at=now,
        updated_at=now,
    )
    event = MemberJoined(
        member_id=member_id,
        unit=a.unit,
        gender=Gender(a.gender),
        language=a.language,
        platforms=member.platforms,
        joined_at=now,
        inviter_id=a.inviter_id,
        channels=welcome_channels(member.consents, a.contact),
    )
    return member, event


def welcome_channels(consents: Sequence[Consent], contact: Contact) -> tuple[str, ...]:
    """The channels on which a welcome was agreed to and can arrive, the preferred one first."""
    return tuple(channel for channel in agreed_channels(consents) if contact.reached_by(channel))


def agreed_channels(consents: Sequence[Consent]) -> tuple[str, ...]:
    """The channels on which a welcome was agreed to, the preferred one first."""
    agreed = [c.channel for c in consents if c.purpose == _WELCOME and c.state == "given"]
    return tuple(channel for channel in _CHANNELS if channel in agreed)


@dataclass(frozen=True, slots=True)
class Changes:
    """Only what is to be replaced; None leaves as is. Optional fields are removed by naming them in `removed`."""

    name: str | None = None
    gender: str | None = None
    language: str | None = None
    birth_year: int | None = None
    phone: str | None = None
    email: str | None = None
    handles: Mapping[str, str] | None = None
    removed: frozenset[str] = frozenset()


def update(
    member: Member, contact: Contact, changes: Changes, now: datetime
) -> tuple[Member, Contact, MemberUpdated] | None:
    """The member, the contact and the event after `changes`; None when they change nothing.

    Raises: `HasLeft`.
    """
    _must_be_active(member)
    new_contact = Contact(
        phone=changes.phone or contact.phone,
        email=None if "email" in changes.removed else changes.email or contact.email,
        handles=contact.handles if changes.handles is None else changes.handles,
    )
    new = replace(
        member,
        name=changes.name or member.name,
        gender=changes.gender or member.gender,
        language=changes.language or member.language,
        birth_year=None if "birth_year" in changes.removed else changes.birth_year or member.birth_year,
        platforms=tuple(new_contact.handles),
    )
    if new == member and new_contact == contact:
        return None
    contact_changed = (new.name, new_contact.phone, new_contact.email) != (
        member.name,
        contact.phone,
        contact.email,
    )
    event = MemberUpdated(
        member_id=member.id,
        unit=member.unit,
        gender=Gender(new.gender),
        language=new.language,
        platforms=new.platforms,
        contact_changed=contact_changed,
    )
    return _next(new, now), new_contact, event


def move(member: Member, unit: str, now: datetime) -> tuple[Member, MemberMoved] | None:
    """None when the member is in that unit already. Raises: `HasLeft`."""
    _must_be_active(member)
    if unit == member.unit:
        return None
    event = MemberMoved(member_id=member.id, from_unit=member.unit, unit=unit)
    return _next(replace(member, unit=unit), now), event


def leave(member: Member, now: datetime) -> tuple[Member, MemberLeft] | None:
    """None when the member has left already."""
    if member.status == Status.LEFT:
        return None
    left = replace(member, status=Status.LEFT.value)
    return _next(left, now), MemberLeft(member_id=member.id, unit=member.unit)


def _must_be_active(member: Member) -> None:
    if member.status != Status.ACTIVE:
        raise HasLeft


def _next(member: Member, now: datetime) -> Member:
    return replace(member, version=member.version + 1, updated_at=now)
