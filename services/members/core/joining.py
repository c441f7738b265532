"""The rules of joining."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.members.core.domain import (
    Consent,
    Contact,
    Member,
    agreed_channels,
    agreed_to_groups,
    may_be_minor,
)
from services.shared.contracts.base import Numbered, Step
from services.shared.contracts.members import MemberJoined
from services.shared.contracts.vocabulary import Gender


@dataclass(frozen=True, slots=True)
class Application:
    """A person as they ask to be registered, already cleaned and normalised."""

    name: str
    unit: str
    contact: Contact
    gender: str
    language: str
    birth_year: int | None = None
    preferred_channel: str | None = None
    inviter_id: str | None = None
    reached_by: str | None = None
    """The member through whom somebody is reached whose contact has no phone."""
    consents: tuple[tuple[str, str, str, str], ...] = ()
    """`(purpose, channel, notice, language)` of each consent given."""
    source: str = "registration"
    """Where the consents come from."""
    guardian_evidence: str | None = None
    """A reference to the proof that a guardian gave the consents, for a minor."""
    origin: str | None = None
    announced: bool = True


def join(application: Application, member_id: str, now: datetime) -> Step[Member]:
    a = application
    minor = a.birth_year is not None and may_be_minor(a.birth_year, now)
    member = Member(
        id=member_id,
        name=a.name,
        unit=a.unit,
        gender=a.gender,
        language=a.language,
        birth_year=a.birth_year,
        preferred_channel=a.preferred_channel,
        platforms=tuple(a.contact.handles),
        consents=tuple([Consent(*given, at=now, source=a.source) for given in a.consents]),
        inviter_id=a.inviter_id,
        origin=a.origin,
        announced=None if a.announced else False,
        reached_by=a.reached_by,
        minor=minor or None,
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
        channels=agreed_channels(member.consents) if a.announced else (),
        origin=a.origin or "registration",
        announced=a.announced,
        own_number=member.own_number,
        group_consent=agreed_to_groups(member.consents),
        adult=None if a.birth_year is None else not minor,
    )
    return Step(member, (Numbered(event, member.version),))
