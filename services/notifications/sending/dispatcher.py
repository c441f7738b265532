"""The dispatcher: claims notifications that are due, has them composed and sent, and records the results.

It uses claims, not a lease, so that replicas work side by side. Sending cannot share a transaction with
recording: a process that dies between the two leaves its claim to run out. A sender that knows ids then gets
the batch again under the same ids; what was handed to a gateway is marked, and is not sent again.

A notification with a fault of its own fails alone, with a reason; a fault of everything (another service is
down, MongoDB does not answer) puts the batch back and counts as no try.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, cast

import structlog

from services.notifications.core.channel import Gateways, Message, Sender
from services.notifications.core.clients.members import Contact
from services.notifications.core.core import Core
from services.notifications.core.domain import Deferred, DispatchResult, Notification
from services.notifications.core.recipients import Recipient
from services.notifications.core.suppressions.domain import Suppression, entries_about
from services.notifications.core.templates.catalogue import consent_of
from services.notifications.sending.composing import LOOK_AGAIN, Composer
from services.notifications.sending.handing_over import GatewayHandover
from services.notifications.sending.results import ResultRecorder
from services.notifications.sending.routing import Batch, OneSender, Way
from services.notifications.sending.store import QueueStore
from services.shared.loops import Backoff, Pace, Turn, poll_loop
from services.shared.observability import tracing
from services.shared.observability.correlation import RequestContext, working_for
from services.shared.observability.tracing import Span, SpanKind, Spans

log = structlog.get_logger(__name__)

PACE: Final = Pace(shortest=0.02, longest=1.0)
"""An idle dispatcher notices a due retry, or what another process made due, at most a second late."""
BACKOFF: Final = Backoff(first=0.25, longest=30.0)
HANDOVER_SECONDS: Final = 20.0
"""No chunk is handed to a gateway when less than this is left of a batch's time: so long it may take."""


class Dispatcher:
    def __init__(self, core: Core, sender: Sender | Gateways) -> None:
        settings = core.settings
        self._queue = QueueStore(core.runtime.database)
        self._recipients = core.recipients
        self._notifications = core.notifications
        self._fingerprints = core.fingerprints
        self._suppressions = core.suppressions
        self._members = core.members
        self._groups = core.groups
        self._recorder = ResultRecorder(core, self._queue)
        self._handover: GatewayHandover | None = None
        if isinstance(sender, Gateways):
            self._handover = GatewayHandover(core, sender, self._queue, self._recorder)
        self._way: Way = self._handover or OneSender(core, cast(Sender, sender))
        self._texts = core.texts
        self._composer = Composer(core.texts, self._way.senders, self._way.approving)
        self._clock = core.clock
        self._metrics = core.metrics
        self._due = core.due
        self._max_batch = settings.dispatch_batch
        self._claim_seconds = settings.claim_seconds

    async def run(self, stop: asyncio.Event) -> None:
        """Dispatch until `stop`; the batch in hand is finished first.

        Raises: a fault that does not pass, for the supervisor to log and restart.
        """
        await poll_loop("dispatcher", self._turn, stop, PACE, wake=self._due, backoff=BACKOFF)

    async def _turn(self) -> Turn:
        return Turn.of(await self.dispatch(), self._max_batch)

    async def dispatch(self) -> int:
        """Handle one batch; returns how many notifications were found due (maybe claimed by another replica).

        Raises: `TransientError`, `TimeoutError` or `pymongo.errors.PyMongoError`; the claim is then put back.
        """
        claim, batch, found = await self._queue.claim(self._clock.now(), self._claim_seconds, self._max_batch)
        if not batch:
            return found
        began = time.perf_counter()
        self._metrics.batch_size.observe(len(batch))
        self._metrics.entered(batch)
        with tracing.spans(_begun(batch)) as spans:
            await self._handle(claim, batch, spans)
        self._metrics.batch_seconds.observe(time.perf_counter() - began)
        return found

    async def _handle(self, claim: str, batch: Sequence[Notification], spans: Spans) -> None:
        try:
            # Half the claim is for sending, the rest for recording: at its end another process may take over.
            async with asyncio.timeout(self._claim_seconds / 2):
                with _working_for_the_first(batch, spans):
                    results = await self._results(claim, batch, spans)
        except BaseException:
            await asyncio.shield(self._put_back(claim, batch))
            raise
        await self._recorder.record(claim, results, spans)

    async def _results(
        self, claim: str, batch: Sequence[Notification], spans: Spans
    ) -> dict[str, DispatchResult]:
        """The results that are still to be recorded: what goes to gateways is recorded chunk by chunk."""
        deadline = time.monotonic() + max(self._claim_seconds / 2 - HANDOVER_SECONDS, self._claim_seconds / 8)
        handed = [n for n in batch if n.handed is not None]
        results: dict[str, DispatchResult] = {n.id: Deferred(self._clock.now()) for n in handed}
        if handed and self._handover is not None:
            results |= await self._handover.settle(handed)
        batch = [n for n in batch if n.handed is None]
        await self._texts.refresh()
        recipients = await self._recipients.by_id({n.member_id for n in batch})
        passed: list[tuple[Notification, Recipient]] = []
        for notification in batch:
            recipient = recipients.get(notification.member_id)
            if recipient is None:  # a rebuild has not come that far
                results[notification.id] = Deferred(self._clock.now() + LOOK_AGAIN)
                continue
            stopped = self._composer.check(notification, recipient, self._clock.now())
            if stopped is None:
                passed.append((notification, recipient))
            else:
                results[notification.id] = stopped
        if passed:
            made, messages = await self._composed(passed)
            numbers = {n.id: len(n.attempts) + 1 for n, _ in passed}
            results |= made
            results |= await self._way.hand_over(Batch(claim, numbers, spans, deadline), messages)
        return results

    async def _composed(
        self, passed: Sequence[tuple[Notification, Recipient]]
    ) -> tuple[dict[str, DispatchResult], list[Message]]:
        """The messages that may go, and the results of the others."""
        # Those that were tried before come last: if one of them spoils an answer, it is among few.
        passed = sorted(passed, key=lambda each: len(each[0].attempts))
        group_ids = sorted({id_ for n, r in passed if (id_ := self._group_of(n, r)) is not None})
        contacts, groups = await asyncio.gather(
            self._members.contacts([r.member_id for _, r in passed]), self._groups.groups(group_ids)
        )
        suppressed = await self._suppressed(contacts.found)
        results: dict[str, DispatchResult] = {}
        messages: list[Message] = []
        for notification, recipient in passed:
            member_id, now = recipient.member_id, self._clock.now()
            group_id = self._group_of(notification, recipient) or ""
            made: Message | DispatchResult
            if reason := contacts.failed.get(member_id):
                made = self._composer.unanswered("members", reason, now)
            elif reason := groups.failed.get(group_id):
                made = self._composer.unanswered("groups", reason, now)
            else:
                contact, group = contacts.found.get(member_id), groups.found.get(group_id)
                stopped = frozenset(
                    entry.channel
                    for entry in suppressed.get(member_id, ())
                    if entry.covers(consent_of(notification.purpose, notification.template))
                )
                made = self._composer.compose(notification, recipient, contact, group, now, stopped)
            if isinstance(made, Message):
                messages.append(made)
            else:
                results[notification.id] = made
        return results, messages

    async def _suppressed(self, contacts: Mapping[str, Contact]) -> dict[str, list[Suppression]]:
        """The entries of the suppression list about the addresses of these contacts, by member id."""
        await self._fingerprints.ready()
        of: dict[str, list[str]] = {}
        for member_id, contact in contacts.items():
            for channel in contact.channels:
                fingerprint = self._fingerprints.of(channel, contact.address(channel) or "")
                for id_ in entries_about(channel, fingerprint):
                    of.setdefault(id_, []).append(member_id)
        found: dict[str, list[Suppression]] = {}
        for id_, entry in (await self._suppressions.by_id(of)).items():
            for member_id in of[id_]:  # people may share an address
                found.setdefault(member_id, []).append(entry)
        return found

    def _group_of(self, notification: Notification, recipient: Recipient) -> str | None:
        return notification.about(self._clock.now()).group_of(recipient)

    async def _put_back(self, claim: str, batch: Sequence[Notification]) -> None:
        """Give up the claim at once, so that nobody waits for its end. If even that fails, it runs out."""
        now = self._clock.now()
        try:
            await self._recorder.record(claim, {n.id: Deferred(now) for n in batch}, {}, cause="peer")
        except Exception as error:
            log.warning("dispatch.claim_left_to_run_out", error=type(error).__name__, count=len(batch))


def _begun(batch: Sequence[Notification]) -> Iterator[tuple[str, Span]]:
    """A span for each notification whose trace is recorded, from the claim to the recorded result."""
    for notification in batch:
        attributes = {"sangathan.notification.id": notification.id}
        span = tracing.begin(
            "send notification", SpanKind.INTERNAL, notification.cause.traceparent, attributes
        )
        if span:
            yield notification.id, span


@contextmanager
def _working_for_the_first(batch: Sequence[Notification], spans: Spans) -> Iterator[None]:
    """A batch calls the other services once for all, so the first recorded trace gets these calls."""
    first_traced = next((n for n in batch if n.id in spans), None)
    if first_traced is None:
        yield
        return
    traceparent = spans[first_traced.id].traceparent
    with working_for(RequestContext(first_traced.cause.correlation_id, traceparent)):
        yield
