"""The rules of merging two records of one person, and of undoing it. Pure.

The *survivor* stands for both afterwards; the *other* is merged into it. Both keep their ids, their ledgers
and their history. A consent that either side has withdrawn is withdrawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from services.members.core.changing import Profile
from services.members.core.domain import (
    Consent,
    ConsentState,
    Contact,
    Member,
    Status,
    agreed_channels,
    consent_of,
    with_consent,
)
from services.members.core.ledger import Pair
from services.members.core.terms import Term
from services.shared.contracts.base import Numbered, Step
from services.shared.contracts.members import (
    MemberConsentChanged,
    MemberMerged,
    MemberMoved,
    MemberUnmerged,
    MemberUpdated,
)
from services.shared.contracts.vocabulary import Gender, Platform

MERGE: Final = "merge"
"""The source of a consent that the survivor has from a merge."""
UNDO: Final = "merge_undone"
"""The source of a consent that undoing a merge withdrew."""
_CONTACT: Final = ("phone", "email", "handles")
_ADDRESS: Final = frozenset({"name", "phone", "email"})
"""Fields whose change makes a cached contact stale."""
_PLATFORMS: Final = tuple(platform.value for platform in Platform)


class Field(StrEnum):
    """A field that survives from one record or the other."""

    NAME = "name"
    PHONE = "phone"
    EMAIL = "email"
    UNIT = "unit"
    GENDER = "gender"
    LANGUAGE = "language"
    BIRTH_YEAR = "birth_year"
    INVITER = "inviter_id"
    REACHED_BY = "reached_by"
    HANDLES = "handles"


class Side(StrEnum):
    """One of the two records."""

    SURVIVOR = "survivor"
    OTHER = "other"


Choice = Mapping[Field, Side]
"""The record whose value of a field survives; of handles, which are united, where both have one."""
Values = Mapping[Field, Any]


@dataclass(frozen=True, slots=True)
class Trace:
    """All that undoing a merge needs: how the survivor's fields changed, `{field: (before, after)}`; the
    `(purpose, channel)` of consents that the survivor was given; the ids of the roles' terms that moved, and
    the other's terms that were dropped because the survivor had the same role; the other's status before."""

    fields: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    given: tuple[Pair, ...] = ()
    moved: tuple[str, ...] = ()
    dropped: tuple[Term, ...] = ()
    status: str = Status.ACTIVE.value


def values(profile: Profile) -> Values:
    member, contact = profile.member, profile.contact
    sources = dict.fromkeys(Field, member) | dict.fromkeys(map(Field, _CONTACT), contact)
    found = {name: getattr(source, name.value) for name, source in sources.items()}
    return found | {Field.HANDLES: dict(contact.handles)}


def surviving(survivor: Profile, other: Profile, choice: Choice) -> Values:
    """The fields after a merge: those chosen, else the survivor's, and the other's where it has none.

    Handles are united. Nobody is their own inviter. A phone of either survives, also one that was not chosen
    where the other record has none: it never had one, or left long ago.
    """
    ours, theirs = values(survivor), values(other)
    sides = {Side.SURVIVOR: ours, Side.OTHER: theirs}
    taken = {name: sides[_side(name, ours, theirs, choice)][name] for name in Field}
    taken[Field.PHONE] = taken[Field.PHONE] or ours[Field.PHONE] or theirs[Field.PHONE]
    first, second = (ours, theirs) if choice.get(Field.HANDLES) is Side.OTHER else (theirs, ours)
    handles = {**first[Field.HANDLES], **second[Field.HANDLES]}
    taken[Field.HANDLES] = {name: handles[name] for name in sorted(handles, key=_place)}
    if taken[Field.INVITER] in (survivor.member.id, other.member.id):
        taken[Field.INVITER] = None
    return _reached(taken)


def with_values(profile: Profile, new: Values) -> Profile:
    """The profile with these fields."""
    member = {name.value: value for name, value in new.items() if name.value not in _CONTACT}
    after = replace(profile.member, **member, platforms=tuple(new[Field.HANDLES]))
    return Profile(after, contact_of(new))


def changed(before: Values, after: Values) -> dict[str, tuple[Any, Any]]:
    """`{field: (before, after)}` of the fields that differ."""
    return {name.value: (before[name], after[name]) for name in Field if before[name] != after[name]}


def reverted(now: Values, trace: Trace) -> Values:
    """The fields with what the merge changed undone, but for those that were changed again since."""
    undone = {Field(name): old for name, (old, new) in trace.fields.items() if now[Field(name)] == new}
    return _reached({**now, **undone})


def _reached(fields: Values) -> Values:
    """The fields of somebody who, with a phone, is reached through nobody."""
    return {**fields, Field.REACHED_BY: None} if fields[Field.PHONE] else fields


def taken_over(survivor: Member, other: Member, now: datetime) -> list[Consent]:
    """The consents that the survivor has from the other: every withdrawal of what the survivor has not
    withdrawn, and what is given to one of the two alone. Of who left, only the withdrawals count."""
    news: list[Consent] = []
    for theirs in other.consents:
        ours = consent_of(survivor, theirs.purpose, theirs.channel)
        withdrawn = theirs.state == ConsentState.WITHDRAWN
        if withdrawn and (ours is None or ours.state == ConsentState.GIVEN):
            news.append(replace(ours or theirs, state=ConsentState.WITHDRAWN.value, source=MERGE, at=now))
        elif not withdrawn and ours is None and other.status == Status.ACTIVE:
            news.append(replace(theirs, source=MERGE, at=now))
    return news


def given_back(survivor: Member, trace: Trace, now: datetime) -> list[Consent]:
    """Withdrawals of what the survivor was given by the merge alone."""
    return [
        replace(consent, state=ConsentState.WITHDRAWN.value, source=UNDO, at=now)
        for consent in survivor.consents
        if (consent.purpose, consent.channel) in trace.given
        and _is_given(consent)
        and consent.source == MERGE
    ]


def withdrawn_since(survivor: Member, other: Member, now: datetime) -> list[Consent]:
    """Withdrawals of what the other had given and the survivor has withdrawn: the person said it."""
    withdrawn = {(c.purpose, c.channel) for c in survivor.consents if not _is_given(c)}
    return [
        replace(consent, state=ConsentState.WITHDRAWN.value, source=UNDO, at=now)
        for consent in other.consents
        if _is_given(consent) and (consent.purpose, consent.channel) in withdrawn
    ]


def change(before: Profile, after: Profile, consents: Sequence[Consent], now: datetime) -> Step[Member]:
    """The member of `after`, with these consents, as the versions that follow `before`: one `member.updated`,
    whether or not it tells anything, so that whoever changes the member meanwhile is told; then the others.

    A consent to the welcome that is new by this makes no welcome: the person may have had one.
    """
    changes = changed(values(before), values(after))
    member = _next(after.member, now)
    welcomes = bool(agreed_channels(before.member.consents)) or member.announced is False
    events = [Numbered(_updated(before.member.unit, member, _ADDRESS & changes.keys()), member.version)]
    if before.member.unit != member.unit:
        member = _next(member, now)
        moved = MemberMoved(
            member_id=member.id,
            from_unit=before.member.unit,
            unit=member.unit,
            own_number=member.own_number,
        )
        events.append(Numbered(moved, member.version))
    for consent in consents:
        member = _next(replace(member, consents=with_consent(member.consents, consent)), now)
        channels = agreed_channels(member.consents)
        if channels and not welcomes:
            member = replace(member, announced=False)
        event = MemberConsentChanged(
            member_id=member.id,
            unit=member.unit,
            purpose=consent.purpose,
            channel=consent.channel,
            state=consent.state,
            channels=channels,
            announced=member.announced is not False,
        )
        events.append(Numbered(event, member.version))
    return Step(member, tuple(events))


def merge_into(other: Member, into: str, now: datetime) -> Step[Member]:
    """`other` as it is once `into` stands for it."""
    merged = _next(replace(other, status=Status.MERGED.value, merged_into=into, roles=()), now)
    event = MemberMerged(**_state(merged), into=into)
    return Step(merged, (Numbered(event, merged.version),))


def part(other: Member, consents: Iterable[Consent], status: str, now: datetime) -> Step[Member]:
    """`other` as it is once it stands for itself again, with these consents changed."""
    assert other.merged_into is not None
    after = other.consents
    for consent in consents:
        after = with_consent(after, consent)
    parted = _next(replace(other, status=status, merged_into=None, consents=after, announced=False), now)
    channels = agreed_channels(after)
    event = MemberUnmerged(**_state(parted) | {"channels": channels}, into=other.merged_into, status=status)
    return Step(parted, (Numbered(event, parted.version),))


def _side(name: Field, ours: Values, theirs: Values, choice: Choice) -> Side:
    if name in choice:
        return choice[name]
    return Side.OTHER if _is_absent(ours[name]) and not _is_absent(theirs[name]) else Side.SURVIVOR


def _is_absent(value: object) -> bool:
    return value is None or value == Gender.UNDISCLOSED


def _is_given(consent: Consent) -> bool:
    return consent.state == ConsentState.GIVEN


def _place(platform: str) -> int:
    return _PLATFORMS.index(platform) if platform in _PLATFORMS else len(_PLATFORMS)


def _next(member: Member, now: datetime) -> Member:
    return replace(member, version=member.version + 1, updated_at=now)


def _updated(unit: str, member: Member, address: Iterable[str]) -> MemberUpdated:
    """`unit` is the one before a move that follows."""
    return MemberUpdated(
        member_id=member.id,
        unit=unit,
        gender=Gender(member.gender),
        language=member.language,
        platforms=member.platforms,
        contact_changed=bool(list(address)),
        own_number=member.own_number,
    )


def _state(member: Member) -> dict[str, Any]:
    """The fields that the events of a merge share; nobody is welcomed by them."""
    return {
        "member_id": member.id,
        "unit": member.unit,
        "gender": Gender(member.gender),
        "language": member.language,
        "platforms": member.platforms,
        "roles": tuple(dict.fromkeys(role.role for role in member.roles)),
        "joined_at": member.joined_at,
        "inviter_id": member.inviter_id,
        "origin": member.origin or "registration",
        "announced": False,
        "own_number": member.own_number,
    }


def contact_of(fields: Values) -> Contact:
    return Contact(**{name: fields[Field(name)] for name in _CONTACT})
