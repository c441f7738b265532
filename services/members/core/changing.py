"""The rules of changing, moving and leaving; each change of a member is one version and one event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from services.members.core.domain import Contact, Member, Status, aged, is_adult
from services.shared.contracts.base import Numbered, Step
from services.shared.contracts.members import MemberLeft, MemberMoved, MemberUpdated
from services.shared.contracts.vocabulary import Gender


class HasLeftError(Exception):
    """A member who left cannot be changed; the person may join again, as a new member."""


class IsMergedError(HasLeftError):
    """A member who was merged cannot be changed: another one stands for both."""


class HasNumberError(Exception):
    """A member who has a number of their own is not reached through another one."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A member with the contact opened."""

    member: Member
    contact: Contact


@dataclass(frozen=True, slots=True)
class Changes:
    """New values; None leaves a field as it is. `removed` names optional fields to be removed."""

    name: str | None = None
    gender: str | None = None
    language: str | None = None
    birth_year: int | None = None
    preferred_channel: str | None = None
    phone: str | None = None
    email: str | None = None
    handles: Mapping[str, str] | None = None
    reached_by: str | None = None
    removed: frozenset[str] = frozenset()

    @property
    def name_address(self) -> bool:
        return bool(self.phone or self.email or "email" in self.removed)

    @property
    def name_contact(self) -> bool:
        return self.name_address or self.handles is not None


def update(profile: Profile, changes: Changes, now: datetime, *, sees_contact: bool) -> Step[Profile]:
    """A caller who does not see the contact makes a new version by naming any of it, changed or not.
    Otherwise a guess would be confirmed by nothing having changed. A phone is the member's own number from
    then on, and cannot be taken away again.

    Raises: `HasLeftError`, `HasNumberError`.
    """
    member, contact = profile.member, profile.contact
    check_active(member)
    if changes.reached_by and member.own_number:
        raise HasNumberError
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
        preferred_channel=(
            None
            if "preferred_channel" in changes.removed
            else changes.preferred_channel or member.preferred_channel
        ),
        platforms=tuple(new_contact.handles),
        reached_by=None if changes.phone else changes.reached_by or member.reached_by,
    )
    guessed = changes.name_contact and not sees_contact
    if new == member and new_contact == contact and not guessed:
        return Step(profile)
    before = (member.name, contact.phone, contact.email)
    after = (new.name, new_contact.phone, new_contact.email)
    contact_changed = after != before or (guessed and changes.name_address)
    new = _next(aged(new, now), now)
    event = updated_event(new, new.unit, contact_changed=contact_changed)
    return Step(Profile(new, new_contact), (Numbered(event, new.version),))


def tell_age(member: Member, now: datetime) -> Step[Member]:
    """The member after it has been told whether they are an adult: they came of age, or nobody has told."""
    new = _next(aged(member, now), now)
    return Step(new, (Numbered(updated_event(new, new.unit), new.version),))


def updated_event(member: Member, unit: str, *, contact_changed: bool = False) -> MemberUpdated:
    """The event of this version of the member, who is in `unit`."""
    return MemberUpdated(
        member_id=member.id,
        unit=unit,
        gender=Gender(member.gender),
        language=member.language,
        platforms=member.platforms,
        contact_changed=contact_changed,
        own_number=member.own_number,
        adult=is_adult(member, member.updated_at),
    )


def move(member: Member, unit: str, now: datetime, cause: str = "move") -> Step[Member]:
    """Raises: `HasLeftError`."""
    check_active(member)
    if unit == member.unit:
        return Step(member)
    event = MemberMoved(
        member_id=member.id,
        from_unit=member.unit,
        unit=unit,
        own_number=member.own_number,
        cause=cause,
    )
    new = _next(replace(member, unit=unit), now)
    return Step(new, (Numbered(event, new.version),))


def leave(member: Member, now: datetime) -> Step[Member]:
    """The roles end with the member. Leaving twice changes nothing.

    Raises: `IsMergedError`.
    """
    if member.status == Status.LEFT:
        return Step(member)
    check_active(member)
    new = _next(replace(member, status=Status.LEFT.value, roles=()), now)
    return Step(new, (Numbered(MemberLeft(member_id=member.id, unit=member.unit), new.version),))


def check_active(member: Member) -> None:
    """Raises: `IsMergedError`, `HasLeftError`."""
    if member.status == Status.MERGED:
        raise IsMergedError
    if member.status != Status.ACTIVE:
        raise HasLeftError


def _next(member: Member, now: datetime) -> Member:
    return replace(member, version=member.version + 1, updated_at=now)
