"""The part of an erasure that is the same in every service that answers `member.erasure_requested`."""

from __future__ import annotations

from collections.abc import Sequence

from services.shared.contracts.base import Envelope
from services.shared.contracts.members import MemberErasureRequested
from services.shared.messaging.dead_letters.store import DeadLetters
from services.shared.messaging.publishing.outbox import UnitOfWork

Requests = Sequence[Envelope[MemberErasureRequested]]
LETTERS = "dead_letters"


async def forget_letters(
    letters: DeadLetters, requests: Requests, work: UnitOfWork
) -> dict[str, dict[str, int]]:
    """Discard the dead letters about the members of these requests; `{member id: {"dead_letters": n}}`."""
    subjects = [request.subject for request in requests]
    counts = await letters.forget_subjects(subjects, work, but=MemberErasureRequested.event_type)
    return {subject: {LETTERS: counts.get(subject, 0)} for subject in subjects}
