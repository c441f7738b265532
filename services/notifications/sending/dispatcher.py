"""The dispatcher: claims notifications that are due, has them composed and sent, and records the results.

It uses claims, not a lease, so that replicas work side by side. Sending cannot share a transaction with
recording: a process that dies between the two leaves its claim to run out, and the batch is sent again under
the same ids.

A notification with a fault of its own fails alone, with a reason; a fault of everything (another service is
down, MongoDB does not answer) puts the batch back and counts as no try.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import structlog

from services.notifications.core.channel import Message, Sender
from services.notifications.core.clients.members import Contact
from services.notifications.core.core import Core
from services.notifications.core.domain import (
    UNRECORDABLE,
    WELCOME,
    Attempted,
    Deferred,
    DispatchResult,
    Notification,
    OutcomeClass,
    RetryPolicy,
    SendOutcome,
    Unanswered,
    conclude,
)
from services.notifications.core.recipients import Recipient
from services.notifications.core.suppressions.domain import Suppression, entries_about
from services.notifications.sending.composing import LOOK_AGAIN, Composer
from services.notifications.sending.store import QueueStore
from services.shared.contracts.base import Step
from services.shared.faults import may_pass
from services.shared.loops import Backoff, Pace, Turn, poll_loop
from services.shared.messaging import Origin, UnitOfWork, bisect
from services.shared.observability import tracing
from services.shared.observability.correlation import RequestContext, working_for
from services.shared.observability.tracing import Span, SpanKind, Spans

log = structlog.get_logger(__name__)

PACE: Final = Pace(shortest=0.02, longest=1.0)
"""An idle dispatcher notices a due retry, or what another process made due, at most a second late."""
BACKOFF: Final = Backoff(first=0.25, longest=30.0)
SENDER_ERROR: Final = "sender_error"


class Dispatcher:
    def __init__(self, core: Core, sender: Sender) -> None:
        settings = core.settings
        self._queue = QueueStore(core.runtime.database)
        self._recipients = core.recipients
        self._notifications = core.notifications
        self._fingerprints = core.fingerprints
        self._suppressions = core.suppressions
        self._members = core.members
        self._groups = core.groups
        self._composer = Composer(core.texts, sender.name)
        self._sender = sender
        self._outbox = core.runtime.outbox
        self._policy = RetryPolicy(settings.send_tries, settings.send_retry_seconds)
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
                    results = await self._results(batch)
        except BaseException:
            await asyncio.shield(self._put_back(claim, batch))
            raise
        await self._record(claim, results, spans)

    async def _results(self, batch: Sequence[Notification]) -> dict[str, DispatchResult]:
        recipients = await self._recipients.by_id({n.member_id for n in batch})
        results: dict[str, DispatchResult] = {}
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
            results |= await self._send(passed)
        return results

    async def _send(self, passed: Sequence[tuple[Notification, Recipient]]) -> dict[str, DispatchResult]:
        # Those that were tried before come last: if one of them spoils an answer, it is among few.
        passed = sorted(passed, key=lambda each: len(each[0].attempts))
        group_ids = sorted({id_ for each in passed if (id_ := _group_of(*each)) is not None})
        contacts, groups = await asyncio.gather(
            self._members.contacts([r.member_id for _, r in passed]), self._groups.groups(group_ids)
        )
        suppressed = await self._suppressed(contacts.found)
        results: dict[str, DispatchResult] = {}
        messages: list[Message] = []
        for notification, recipient in passed:
            member_id, now = recipient.member_id, self._clock.now()
            group_id = _group_of(notification, recipient) or ""
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
                    if entry.covers(notification.purpose)
                )
                made = self._composer.compose(notification, recipient, contact, group, now, stopped)
            if isinstance(made, Message):
                messages.append(made)
            else:
                results[notification.id] = made
        return results | await self._hand_over(messages)

    async def _suppressed(self, contacts: Mapping[str, Contact]) -> dict[str, list[Suppression]]:
        """The entries of the suppression list about the addresses of these contacts, by member id."""
        await self._fingerprints.ready()
        of: dict[str, str] = {}
        for member_id, contact in contacts.items():
            for channel in contact.channels:
                fingerprint = self._fingerprints.of(channel, contact.address(channel) or "")
                of |= dict.fromkeys(entries_about(channel, fingerprint), member_id)
        found: dict[str, list[Suppression]] = {}
        for id_, entry in (await self._suppressions.by_id(of)).items():
            found.setdefault(of[id_], []).append(entry)
        return found

    async def _hand_over(self, messages: Sequence[Message]) -> dict[str, DispatchResult]:
        """Raises: a fault of the sender that passes. One that does not is found by bisection and fails its
        message alone; the others may be handed over again, under the same ids."""
        results: dict[str, DispatchResult] = {}

        async def send(part: Sequence[Message]) -> None:
            outcomes = await self._sender.send(part)
            results.update((m.id, self._attempted(m, o)) for m, o in zip(part, outcomes, strict=True))

        async def fail(message: Message, error: Exception) -> None:
            log.error("dispatch.sender_failed", notification=message.id, error=type(error).__name__)
            self._metrics.isolated.labels(SENDER_ERROR).inc()
            outcome = SendOutcome(OutcomeClass.TRANSIENT, SENDER_ERROR)
            results[message.id] = self._attempted(message, outcome)

        if messages:
            await bisect(messages, send, fail, splits=lambda error: not may_pass(error))
        return results

    def _attempted(self, message: Message, outcome: SendOutcome) -> Attempted:
        return Attempted(outcome, self._sender.name, message.channel, message.language, message.unit)

    async def _put_back(self, claim: str, batch: Sequence[Notification]) -> None:
        """Give up the claim at once, so that nobody waits for its end. If even that fails, it runs out."""
        now = self._clock.now()
        try:
            await self._record(claim, {n.id: Deferred(now) for n in batch}, {}, cause="peer")
        except Exception as error:
            log.warning("dispatch.claim_left_to_run_out", error=type(error).__name__, count=len(batch))

    async def _record(
        self, claim: str, results: Mapping[str, DispatchResult], spans: Spans, *, cause: str = "gate"
    ) -> None:
        """Write each result and stage the events that publish it, in one transaction.

        A result that cannot be written is found by bisection and set aside: put back, it would be sent again
        and again. `cause` is a label of the metric: the send policy (`gate`) or another service (`peer`)
        deferred them.
        """

        async def record(ids: Sequence[str]) -> None:
            await self._record_together(claim, {id_: results[id_] for id_ in ids}, spans, cause)

        async def set_aside(id_: str, error: Exception) -> None:
            log.error("dispatch.unrecordable", notification=id_, error=type(error).__name__)
            await self._queue.set_aside(id_, claim, UNRECORDABLE, self._clock.now())
            self._metrics.isolated.labels(UNRECORDABLE).inc()

        await bisect(list(results), record, set_aside, splits=lambda error: not may_pass(error))

    async def _record_together(
        self, claim: str, results: Mapping[str, DispatchResult], spans: Spans, cause: str
    ) -> None:
        async def body(work: UnitOfWork) -> list[Step[Notification]]:
            ours = await self._queue.claimed(results.keys(), claim, work.session)
            now = self._clock.now()
            steps = [conclude(n, results[n.id], policy=self._policy, now=now) for n in ours]
            await self._notifications.save([step.state for step in steps], work.session)
            for after, events in steps:
                work.stage_all(events, _origin(after, spans.get(after.id)))
            return steps

        steps = await self._outbox.transact(body)
        if len(steps) < len(results):
            log.warning("dispatch.claim_ran_out", lost=len(results) - len(steps))
        self._metrics.entered(step.state for step in steps)
        for step in steps:
            self._count(results[step.state.id], cause)

    def _count(self, result: DispatchResult, cause: str) -> None:
        if isinstance(result, Attempted):
            self._metrics.attempts.labels(result.sender, result.outcome.kind.value).inc()
        elif isinstance(result, Unanswered):
            self._metrics.isolated.labels(result.reason).inc()
        elif isinstance(result, Deferred):
            self._metrics.postponed.labels(cause).inc()


def _group_of(notification: Notification, recipient: Recipient) -> str | None:
    """A welcome goes with the link of the group in which the member has a seat by now."""
    return recipient.group_id if notification.purpose == WELCOME else notification.group_id


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


def _origin(notification: Notification, span: Span | None) -> Origin:
    cause = notification.cause
    return Origin(cause.correlation_id, span.traceparent if span else cause.traceparent, cause.causation_id)
