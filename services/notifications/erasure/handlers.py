"""The answer to `member.erasure_requested`. The welcomes have suppressed what was queued, in this same
transaction, and reduced the recipient to what keeps late events stale."""

from __future__ import annotations

from collections.abc import Sequence

from services.notifications.erasure.store import ErasureStore
from services.shared.contracts.base import Envelope
from services.shared.contracts.members import MemberErasureRequested
from services.shared.contracts.notifications import NotificationsErasureAcknowledged
from services.shared.errors import TransientError
from services.shared.messaging import DeadLetters, Origin, UnitOfWork, forget_letters


class ErasureHandlers:
    def __init__(self, store: ErasureStore, letters: DeadLetters) -> None:
        self._store = store
        self._letters = letters

    async def erase(self, requests: Sequence[Envelope[MemberErasureRequested]], work: UnitOfWork) -> None:
        """Raises: `TransientError` while a message to one of the members is with the sender, which may still
        record it: that ends with the claim."""
        ids = [request.subject for request in requests]
        if await self._store.any_being_sent(ids, work.session):
            raise TransientError("a message to the member is being sent")
        messages = await self._store.destroy_messages(ids, work.session)
        traces = await self._store.destroy_traces(ids, work.session)
        destroyed = await forget_letters(self._letters, requests, work)
        for request in requests:
            if request.id in work.refused:
                continue
            data = request.data
            of_webhooks = {name: counts[request.subject] for name, counts in traces.items()}
            counts = {"messages": messages[request.subject], **of_webhooks, **destroyed[request.subject]}
            answer = NotificationsErasureAcknowledged(
                erasure_id=data.erasure_id, member_id=data.member_id, attempt=data.attempt, destroyed=counts
            )
            work.stage(answer, data.attempt, Origin.of(request))
