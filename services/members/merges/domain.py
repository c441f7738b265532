"""The rules of merging two records of one person, and of undoing it. Pure.

The *survivor* stands for both afterwards; the *other* is merged into it. Both keep their ids, their ledgers
and their history. A consent that either side has withdrawn is withdrawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from services.members.core.changing import Profile, updated_event
from services.members.core.domain import (
    MERGE,
    MERGE_UNDONE,
    Consent,
    ConsentState,
    Contact,
    Member,
    Status,
    aged,
    agreed_channels,
    agreed_to_groups,
    consent_of,
    is_adult,
    with_consent,
    withdrawn,
)
from services.members.core.ledger import Pair
from services.members.core.terms import Term
from services.shared.contracts.base import Numbered, Step
from services.shared.contracts.members import (
    MemberConsentChanged,
    MemberMerged,
    MemberMoved,
    MemberUnmerged,
)
from services.shared.contracts.vocabulary import Gender, Platform

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
    """All that undoing a merge needs. `pair`: the survivor's id and the other's; the survivor's fields
    `before` and `after`, and what made the one of the other: the `choice`, and `theirs`, the other's fields;
    the `(purpose, channel)` of consents that the survivor was given; the ids of the roles' terms that moved,
    and the other's terms that were dropped because the survivor had the same role; the other's status before.
    """

    pair: tuple[str, str]
    choice: Choice
    theirs: Values
    before: Values
    after: Values
    given: tuple[Pair, ...] = ()
    moved: tuple[str, ...] = ()
    dropped: tuple[Term, ...] = ()
    status: str = Status.ACTIVE.value


def values(profile: Profile) -> Values:
    member, contact = profile.member, profile.contact
    sources = dict.fromkeys(Field, member) | dict.fromkeys(map(Field, _CONTACT), contact)
    found = {name: getattr(source, name.value) for name, source in sources.items()}
    return found | {Field.HANDLES: dict(contact.handles)}


def surviving(ours: Values, theirs: Values, choice: Choice, pair: tuple[str, str]) -> Values:
    """The fields after a merge: those chosen, else the survivor's, and the other's where it has none.

    Handles are united. Nobody is their own inviter; `pair` are both ids. A phone of either survives, also one
    that was not chosen where the other record has none: it never had one, or left long ago.
    """
    sides = {Side.SURVIVOR: ours, Side.OTHER: theirs}
    taken = {name: sides[_side(name, ours, theirs, choice)][name] for name in Field}
    taken[Field.PHONE] = taken[Field.PHONE] or ours[Field.PHONE] or theirs[Field.PHONE]
    first, second = (ours, theirs) if choice.get(Field.HANDLES) is Side.OTHER else (theirs, ours)
    handles = {**first[Field.HANDLES], **second[Field.HANDLES]}
    taken[Field.HANDLES] = {name: handles[name] for name in sorted(handles, key=_place)}
    if taken[Field.INVITER] in pair:
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


def without(traces: Mapping[str, Trace], gone: str, now: Values) -> tuple[Values, dict[str, Trace]]:
    """The survivor's fields, and the traces of the other merges, as if the merge `gone` had never been.

    `traces` are those of all merges into the survivor that can be undone, by id, the oldest first; `now` its
    fields. The merges are done again without that one, from what the survivor was before the first. What
    somebody changed by hand, between two of them or since, stays; but a phone that was changed to the number
    of the one who is parted is theirs again, and the survivor has its own.
    """
    parted = traces[gone]
    freed = parted.theirs[Field.PHONE] if parted.status == Status.ACTIVE else ""
    fields = seen = next(iter(traces.values())).before
    kept: dict[str, Trace] = {}
    for merge_id, trace in traces.items():
        fields = _edited(fields, seen, trace.before, freed)
        if merge_id != gone:
            after = surviving(fields, _without_phone(trace.theirs, freed), trace.choice, trace.pair)
            kept[merge_id] = replace(trace, before=fields, after=after)
            fields = after
        seen = trace.after
    return _edited(fields, seen, now, freed), kept


def _edited(fields: Values, seen: Values, found: Values, freed: str) -> Values:
    """`fields` with what somebody changed who saw `seen` and left `found`; handles each by itself."""
    if freed and found[Field.PHONE] == freed:
        found = {**found, Field.PHONE: seen[Field.PHONE]}
    edits = {name: found[name] for name in Field if found[name] != seen[name]}
    was, handles = seen[Field.HANDLES], found[Field.HANDLES]
    left = {name: own for name, own in fields[Field.HANDLES].items() if name in handles or name not in was}
    new = {name: handle for name, handle in handles.items() if was.get(name) != handle}
    return _reached({**fields, **edits, Field.HANDLES: {**left, **new}})


def _without_phone(fields: Values, phone: str) -> Values:
    return {**fields, Field.PHONE: ""} if fields[Field.PHONE] == phone else fields


def _reached(fields: Values) -> Values:
    """The fields of somebody who, with a phone, is reached through nobody."""
    return {**fields, Field.REACHED_BY: None} if fields[Field.PHONE] else fields


def taken_over(survivor: Member, other: Member, now: datetime) -> list[Consent]:
    """The consents that the survivor has from the other: every withdrawal of what the survivor has not
    withdrawn, and what is given to one of the two alone. Of who left, only the withdrawals count. What ended
    because a merge was undone is no withdrawal."""
    news: list[Consent] = []
    for theirs in other.consents:
        ours = consent_of(survivor, theirs.purpose, theirs.channel)
        unsaid = ours is None or ours.source == MERGE_UNDONE
        if _is_given(theirs):
            if unsaid and other.status == Status.ACTIVE:
                news.append(replace(theirs, source=MERGE, at=now))
        elif theirs.source != MERGE_UNDONE and (no := withdrawn(survivor, *_pair(theirs), MERGE, now)):
            # The text that was shown is the survivor's, if one was.
            news.append(no if no.notice else replace(theirs, source=MERGE, at=now))
    return news


class GivenBack(NamedTuple):
    """A consent that the survivor had from a merge alone, as it is without it; `other` is the one whom it has
    it from now, and `merge_id` the merge. None: nobody."""

    consent: Consent
    merge_id: str | None = None
    other: str | None = None


def given_back(
    survivor: Member, trace: Trace, standing: Sequence[tuple[str, Trace, Member]], now: datetime
) -> list[GivenBack]:
    """The consents that the survivor has from the merge of this trace, as they are without it. `standing` are
    the other merges that can be undone, the oldest first, with who was merged: the first who gave the same
    consent stands for it; if nobody did, it ends."""
    back: list[GivenBack] = []
    for consent in survivor.consents:
        if _pair(consent) not in trace.given or not _is_given(consent) or consent.source != MERGE:
            continue
        found = (
            GivenBack(replace(theirs, source=MERGE, at=now), merge_id, other.id)
            for merge_id, its, other in standing
            if its.status == Status.ACTIVE
            and (theirs := consent_of(other, *_pair(consent)))
            and _is_given(theirs)
        )
        ended = replace(consent, state=ConsentState.WITHDRAWN.value, source=MERGE_UNDONE, at=now)
        back.append(next(found, GivenBack(ended)))
    return back


def giving(traces: Mapping[str, Trace], back: Iterable[GivenBack]) -> dict[str, Trace]:
    """The traces of the merges that stand for these consents now."""
    after = dict(traces)
    for consent, merge_id, _ in back:
        if merge_id is not None:
            after[merge_id] = replace(after[merge_id], given=(*after[merge_id].given, _pair(consent)))
    return after


class RolesOfOthers(NamedTuple):
    """Terms that the survivor gets, and the traces of the merges that it has them from."""

    terms: Sequence[Term]
    traces: dict[str, Trace]


def roles_of_others(back: Iterable[Term], traces: Mapping[str, Trace], now: datetime) -> RolesOfOthers:
    """For each role that goes `back`, the term of the first one who had it too and whose term was dropped."""
    wanted = {(term.role, term.unit) for term in back}
    terms: list[Term] = []
    after = dict(traces)
    for merge_id, trace in traces.items():
        found = [t for t in trace.dropped if (t.role, t.unit) in wanted and not t.ended(now)]
        if found:
            wanted -= {(term.role, term.unit) for term in found}
            terms += found
            dropped = tuple(term for term in trace.dropped if term not in found)
            moved = (*trace.moved, *(term.id for term in found))
            after[merge_id] = replace(trace, moved=moved, dropped=dropped)
    return RolesOfOthers(terms, after)


def change(before: Profile, after: Profile, consents: Sequence[Consent], now: datetime) -> Step[Member]:
    """The member of `after`, with these consents, as the versions that follow `before`: one `member.updated`,
    whether or not it tells anything, so that whoever changes the member meanwhile is told; then the others.

    A consent to the welcome that is new by this makes no welcome: the person may have had one.
    """
    changes = changed(values(before), values(after))
    member = _next(aged(after.member, now), now)
    welcomes = bool(agreed_channels(before.member.consents)) or member.announced is False
    address = bool(_ADDRESS & changes.keys())
    events = [Numbered(updated_event(member, before.member.unit, contact_changed=address), member.version)]
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
            group_consent=agreed_to_groups(member.consents),
        )
        events.append(Numbered(event, member.version))
    return Step(member, tuple(events))


def merge_into(other: Member, into: str, now: datetime) -> Step[Member]:
    """`other` as it is once `into` stands for it."""
    merged = _next(aged(replace(other, status=Status.MERGED.value, merged_into=into, roles=()), now), now)
    event = MemberMerged(**_state(merged), into=into)
    return Step(merged, (Numbered(event, merged.version),))


def part(other: Member, status: str, now: datetime) -> Step[Member]:
    """`other` as it is once it stands for itself again, with the consents of its own ledger."""
    assert other.merged_into is not None
    parted = _next(aged(replace(other, status=status, merged_into=None, announced=False), now), now)
    channels = agreed_channels(parted.consents)
    event = MemberUnmerged(**_state(parted) | {"channels": channels}, into=other.merged_into, status=status)
    return Step(parted, (Numbered(event, parted.version),))


def _side(name: Field, ours: Values, theirs: Values, choice: Choice) -> Side:
    if name in choice:
        return choice[name]
    return Side.OTHER if _is_absent(ours[name]) and not _is_absent(theirs[name]) else Side.SURVIVOR


def _is_absent(value: object) -> bool:
    return value is None or value == Gender.UNDISCLOSED


def _pair(consent: Consent) -> Pair:
    return consent.purpose, consent.channel


def _is_given(consent: Consent) -> bool:
    return consent.state == ConsentState.GIVEN


def _place(platform: str) -> int:
    return _PLATFORMS.index(platform) if platform in _PLATFORMS else len(_PLATFORMS)


def _next(member: Member, now: datetime) -> Member:
    return replace(member, version=member.version + 1, updated_at=now)


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
        "group_consent": agreed_to_groups(member.consents),
        "adult": is_adult(member, member.updated_at),
    }


def contact_of(fields: Values) -> Contact:
    return Contact(**{name: fields[Field(name)] for name in _CONTACT})
