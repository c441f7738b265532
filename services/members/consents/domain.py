"""The rules of consents. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from services.members.core.domain import (
    Consent,
    ConsentState,
    Member,
    agreed_channels,
    agreed_to_groups,
    consent_of,
    with_consent,
    withdrawn,
)
from services.shared.contracts.base import Numbered, Step
from services.shared.contracts.members import MemberConsentChanged


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A consent as somebody gives it, or as staff records it for them."""

    purpose: str
    channel: str
    notice: str
    language: str
    source: str
    evidence: str


def give(member: Member, given: Given, now: datetime) -> Step[Member]:
    """Giving again what is given, by the same notice in the same language, changes nothing."""
    before = consent_of(member, given.purpose, given.channel)
    consent = Consent(given.purpose, given.channel, given.notice, given.language, now, given.source)
    if before and before.state == ConsentState.GIVEN and _shown(before) == _shown(consent):
        return Step(member)
    return _changed(member, consent, now)


def withdraw(member: Member, purpose: str, channel: str, source: str, now: datetime) -> Step[Member]:
    """Withdrawing what was never given is a refusal; withdrawing again changes nothing. Whoever left may
    withdraw too."""
    consent = withdrawn(member, purpose, channel, source, now)
    return _changed(member, consent, now) if consent else Step(member)


def _shown(consent: Consent) -> tuple[str, str]:
    return consent.notice, consent.language


def _changed(member: Member, consent: Consent, now: datetime) -> Step[Member]:
    consents = with_consent(member.consents, consent)
    new = replace(member, consents=consents, version=member.version + 1, updated_at=now)
    event = MemberConsentChanged(
        member_id=member.id,
        unit=member.unit,
        purpose=consent.purpose,
        channel=consent.channel,
        state=consent.state,
        channels=agreed_channels(new.consents),
        group_consent=agreed_to_groups(new.consents),
    )
    return Step(new, (Numbered(event, new.version),))
