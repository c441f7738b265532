"""Erasure of members: the projection of members has forgotten their attributes, in the same transaction."""

from __future__ import annotations

from collections.abc import Sequence

from services.analytics.core.core import Core
from services.shared.contracts.analytics import AnalyticsErasureAcknowledged
from services.shared.contracts.base import Envelope
from services.shared.contracts.members import MemberErasureRequested
from services.shared.messaging import Origin, UnitOfWork, forget_letters
from services.shared.runtime import Feature


def erasure(core: Core) -> Feature:
    letters = core.runtime.dead_letters

    async def acknowledge(requests: Sequence[Envelope[MemberErasureRequested]], work: UnitOfWork) -> None:
        destroyed = await forget_letters(letters, requests, work)
        for request in requests:
            if request.id in work.refused:
                continue
            data = request.data
            answer = AnalyticsErasureAcknowledged(
                erasure_id=data.erasure_id,
                member_id=data.member_id,
                attempt=data.attempt,
                destroyed={"facts": 1, **destroyed[request.subject]},
            )
            work.stage(answer, data.attempt, Origin.of(request))

    return Feature(subscriptions={MemberErasureRequested: acknowledge})
