"""Erasure of members: the projection of members forgets their attributes, in the same transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.analytics.core.core import Core
from services.shared.contracts.analytics import AnalyticsErasureAcknowledged
from services.shared.contracts.base import Envelope
from services.shared.contracts.members import MemberErasureRequested
from services.shared.messaging import Origin, UnitOfWork, forget_letters, without_leaps
from services.shared.runtime import Feature

MEMBERS: Final = "members"
"""The projection's name."""


def erasure(core: Core) -> Feature:
    letters = core.runtime.dead_letters

    async def acknowledge(requests: Sequence[Envelope[MemberErasureRequested]], work: UnitOfWork) -> None:
        """Counts before the projection forgets: this feature comes before it in the table of contents."""
        subjects = [request.subject for request in requests]
        place = (await core.pointers.of(work)).place(MEMBERS)
        facts = await core.store.facts(place, subjects, work.session) if place else {}
        records = await core.coverage.live_records(subjects, work.session)
        requests = without_leaps(requests, lambda id_: facts[id_].newest if id_ in facts else 0, work)
        known = {id_ for id_, fact in facts.items() if fact.get("gender") is not None}
        known |= {id_ for id_, record in records.items() if not record.get("erased")}
        destroyed = await forget_letters(letters, requests, work)
        for request in requests:
            data = request.data
            answer = AnalyticsErasureAcknowledged(
                erasure_id=data.erasure_id,
                member_id=data.member_id,
                attempt=data.attempt,
                destroyed={"facts": int(data.member_id in known), **destroyed[request.subject]},
            )
            work.stage(answer, data.attempt, Origin.of(request))

    return Feature(subscriptions={MemberErasureRequested: acknowledge})
