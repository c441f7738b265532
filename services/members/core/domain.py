"""The member: a registered person, what they agreed to, and how they can be reached.

Pure: times and ids come in as arguments. The name is part of `Member`; everything that reaches the person
(phone, e-mail, handles) is a `Contact`, which is sealed and stored apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from services.shared.contracts.vocabulary import Channel, Purpose

UNDO_MERGE_WITHIN: Final = timedelta(days=30)
OLDEST_YEARS: Final = 120
YOUNGEST_YEARS: Final = 13
ADULT_YEARS: Final = 18
"""The age from which somebody is no child (DPDP Act 2023, section 2(f))."""
GUARDIAN: Final = "guardian"
"""The source of a consent that a guardian gave for a minor."""
MERGE: Final = "merge"
"""The source of a consent that the member has from a merge."""
MERGE_UNDONE: Final = "merge_undone"
"""The source with which a consent from a merge ends when the merge is undone: nobody said no."""

# Plain strings: comparing members of enums is what a registration would spend its time on.
_CHANNELS: Final = tuple(channel.value for channel in Channel)
_WELCOME: Final = Purpose.WELCOME.value
_GROUP: Final = Purpose.GROUP.value


class Status(StrEnum):
    ACTIVE = "active"
    LEFT = "left"
    MERGED = "merged"
    """The same person as another member, `merged_into`, who stands for both."""


@dataclass(frozen=True, slots=True)
class Contact:
    """How to reach a person. `phone` is empty for somebody without a number of their own. `handles` maps a
    platform to the person's name there."""

    phone: str
    email: str | None = None
    handles: Mapping[str, str] = field(default_factory=dict)


class ConsentState(StrEnum):
    GIVEN = "given"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Consent:
    """The last answer about its purpose and channel. `notice` names the version of the text that was shown,
    `language` its language; both are empty for a refusal of what was never given."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A registered person at one version. `platforms` are those of the contact's handles, in the order given.

    Documents and answers have these fields, in this order.
    """

    id: str
    name: str
    unit: str
    gender: str
    language: str
    birth_year: int | None = None
    preferred_channel: str | None = None
    """On which messages are to come first, where they were consented to."""
    platforms: tuple[str, ...] = ()
    roles: tuple[Role, ...] = ()
    consents: tuple[Consent, ...] = ()
    status: str = Status.ACTIVE.value
    inviter_id: str | None = None
    origin: str | None = None
    """`import` for a member who came with an import, None for one who was registered."""
    announced: bool | None = None
    """False for a member whom nobody is to welcome, because the import announced nothing."""
    merged_into: str | None = None
    """The member who stands for this one, who is `merged`; that one may be merged into another in turn."""
    reached_by: str | None = None
    """The member whose number reaches this one, who has none of their own. It stays when that member leaves,
    is merged or erased; answers show who stands for them now, empty if that is nobody with a number."""
    minor: bool | None = None
    """True while the events tell that the member may be a minor."""
    joined_at: datetime
    updated_at: datetime
    version: int = 1

    @property
    def own_number(self) -> bool:
        return self.reached_by is None


def consent_of(member: Member, purpose: str, channel: str) -> Consent | None:
    """The last answer about the purpose and channel."""
    found = (c for c in member.consents if (c.purpose, c.channel) == (purpose, channel))
    return next(found, None)


def withdrawn(member: Member, purpose: str, channel: str, source: str, at: datetime) -> Consent | None:
    """The consent as it is once the person has said no, also to what was never given. None: already so."""
    before = consent_of(member, purpose, channel)
    if before is None:
        return Consent(purpose, channel, "", "", at, source, ConsentState.WITHDRAWN.value)
    if before.state == ConsentState.WITHDRAWN and before.source != MERGE_UNDONE:
        return None
    return replace(before, state=ConsentState.WITHDRAWN.value, source=source, at=at)


def with_consent(consents: Sequence[Consent], new: Consent) -> tuple[Consent, ...]:
    """The consents after the answer `new`, which replaces the one about the same purpose and channel."""
    pair = (new.purpose, new.channel)
    return (*(c for c in consents if (c.purpose, c.channel) != pair), new)


def is_plausible_birth_year(year: int, now: datetime) -> bool:
    return now.year - OLDEST_YEARS <= year and _is_surely(YOUNGEST_YEARS, year, now)


def may_be_minor(year: int, now: datetime) -> bool:
    """Whether somebody who was born in that year is not surely an adult: the birthday may be to come."""
    return not _is_surely(ADULT_YEARS, year, now)


def is_adult(member: Member, now: datetime) -> bool | None:
    """Whether the member is surely 18 by the year of birth; None if that is not known. Whoever was told to be
    a minor stays one without a year of birth."""
    if member.birth_year is None:
        return False if member.minor else None
    return not may_be_minor(member.birth_year, now)


def aged(member: Member, now: datetime) -> Member:
    """The member as the event tells that is made now."""
    return replace(member, minor=True if is_adult(member, now) is False else None)


def has_guardian(member: Member) -> bool:
    """Whether a guardian's consent to the membership is on record, and not withdrawn."""
    wanted = (Purpose.MEMBERSHIP.value, GUARDIAN, ConsentState.GIVEN)
    return any((c.purpose, c.source, c.state) == wanted for c in member.consents)


def _is_surely(years: int, born: int, now: datetime) -> bool:
    return now.year - born > years


def agreed_channels(consents: Sequence[Consent]) -> tuple[str, ...]:
    """The channels on which a welcome was agreed to, the preferred one first."""
    agreed = [c.channel for c in consents if c.purpose == _WELCOME and c.state == "given"]
    return tuple([channel for channel in _CHANNELS if channel in agreed])


def agreed_to_groups(consents: Sequence[Consent]) -> bool:
    """Whether the member consents to be in chat groups, where all others see their number."""
    return any(c.purpose == _GROUP and c.state == "given" for c in consents)
