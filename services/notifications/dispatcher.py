"""The dispatcher: claims what is due, has it composed and sent, and records what became of it.

A claim, not a lease, so that replicas work side by side. Sending cannot share a transaction with recording: a process
that dies between the two leaves its claim to run out, and the batch is sent again under the same ids.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import structlog

from services.notifications.composing import Composer
from services.notifications.contacts import ContactBook
from services.notifications.domain import (
    Notification,
    Postponed,
    Result,
    RetryPolicy,
    Step,
    Tried,
    conclude,
)
from services.notifications.metrics import NotificationMetrics
from services.notifications.peers import GroupsApi
from services.notifications.recipients import Recipient
from services.notifications.senders.base import Message, Sender
from services.notifications.store import Store
from services.shared.clock import Clock
from services.shared.faults import FaultFamily, backoff_seconds, classify
from services.shared.loops import first
from services.shared.messaging import Origin, Outbox, UnitOfWork
from services.shared.observability import tracing
from services.shared.observability.correlation import RequestContext, working_for
from services.shared.observability.tracing import Span, SpanKind, Spans

log = structlog.get_logger(__name__)

POLL_MIN_SECONDS: Final = 0.02
POLL_MAX_SECONDS: Final = 1.0
"""How late an idle dispatcher may notice what another process made due, or a retry whose time has come."""
GAUGE_SECONDS: Final = 15.0


class Dispatcher:
    """`due` is set by whoever may have made something due in this process."""

    def __init__(
        self,
        *,
        store: Store,
        outbox: Outbox,
        contacts: ContactBook,
        groups: GroupsApi,
        composer: Composer,
        sender: Sender,
        policy: RetryPolicy,
        clock: Clock,
        metrics: NotificationMetrics,
        due: asyncio.Event,
        max_batch: int,
        claim_seconds: float,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._contacts = contacts
        self._groups = groups
        self._composer = composer
        self._sender = sender
        self._policy = policy
        self._clock = clock
        self._metrics = metrics
        self._due = due
        self._max_batch = max_batch
        self._claim_seconds = claim_seconds
        self._gauged_at = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Dispatch until `stop`; the batch in hand is finished first.

        Raises: what is not known to pass, for the supervisor to log and restart.
        """
        pause, failures = POLL_MIN_SECONDS, 0
        while not stop.is_set():
            try:
                found = await self.dispatch()
                await self._gauge()
                failures = 0
            except Exception as error:
                if classify(error) is FaultFamily.PERMANENT:
                    raise
                failures += 1
                log.warning("dispatch.retrying", error=type(error).__name__, failures=failures)
                await first(stop, timeout=backoff_seconds(failures, first=0.25, most=30.0))
                continue
            if found < self._max_batch:
                pause = POLL_MIN_SECONDS if found else min(POLL_MAX_SECONDS, pause * 2)
                await first(stop, self._due, timeout=pause)
            if self._due.is_set():
                self._due.clear()
                pause = POLL_MIN_SECONDS

    async def dispatch(self) -> int:
        """Take one batch through; how many notifications were found due (another replica may have got them).

        Raises: `TransientError`, `TimeoutError` or `pymongo.errors.PyMongoError`; what was claimed is then put back.
        """
        now = self._clock.now()
        until = now + timedelta(seconds=self._claim_seconds)
        claim, batch, found = await self._store.claim(now, until, self._max_batch)
        if not batch:
            return found
        began = time.perf_counter()
        self._metrics.batch_size.observe(len(batch))
        self._metrics.entered(batch)
        with tracing.spans(_begun(batch)) as spans:
            await self._settle(claim, batch, spans)
        self._metrics.batch_seconds.observe(time.perf_counter() - began)
        return found

    async def _settle(self, claim: str, batch: Sequence[Notification], spans: Spans) -> None:
        try:
            # Half the claim for sending, the other half for recording: by the end of it another may take over.
            async with asyncio.timeout(self._claim_seconds / 2):
                with _working_for_the_first(batch, spans):
                    results = await self._results(batch)
        except BaseException:
            await asyncio.shield(self._put_back(claim, batch))
            raise
        await self._record(claim, results, spans)

    async def _results(self, batch: Sequence[Notification]) -> dict[str, Result]:
        recipients = await self._store.recipients({n.member_id for n in batch})
        results: dict[str, Result] = {}
        passed: list[tuple[Notification, Recipient]] = []
        for notification in batch:
            recipient = recipients[notification.member_id]
            refusal = self._composer.refusal(notification, recipient, self._clock.now())
            if refusal is None:
                passed.append((notification, recipient))
            else:
                results[notification.id] = refusal
        if passed:
            results |= await self._send(passed)
        return results

    async def _send(self, passed: Sequence[tuple[Notification, Recipient]]) -> dict[str, Result]:
        recipients = [recipient for _, recipient in passed]
        group_ids = sorted({r.group_id for r in recipients if r.group_id is not None})
        contacts, groups = await asyncio.gather(self._contacts.of(recipients), self._groups.groups(group_ids))
        results: dict[str, Result] = {}
        messages: list[Message] = []
        for notification, recipient in passed:
            contact, group = contacts.get(recipient.member_id), groups.get(recipient.group_id or "")
            made = self._composer.compose(notification, recipient, contact, group, self._clock.now())
            if isinstance(made, Message):
                messages.append(made)
            else:
                results[notification.id] = made
        return results | await self._hand_over(messages)

    async def _hand_over(self, messages: Sequence[Message]) -> dict[str, Result]:
        if not messages:
            return {}
        outcomes = await self._sender.send(messages)
        return {
            message.id: Tried(outcome, self._sender.name, message.channel, message.language)
            for message, outcome in zip(messages, outcomes, strict=True)
        }

    async def _put_back(self, claim: str, batch: Sequence[Notification]) -> None:
        """Give up the claim at once, so that nobody waits for it to run out. If even that fails, it runs out."""
        now = self._clock.now()
        try:
            await self._record(claim, {n.id: Postponed(now) for n in batch}, {}, cause="peer")
        except Exception as error:
            log.warning("dispatch.claim_left_to_run_out", error=type(error).__name__, count=len(batch))

    async def _record(
        self, claim: str, results: Mapping[str, Result], spans: Spans, *, cause: str = "gate"
    ) -> None:
        """Write what became of each and stage the events that say so, in one transaction."""

        async def body(work: UnitOfWork) -> list[Step]:
            ours = await self._store.claimed(results.keys(), claim, work.session)
            now = self._clock.now()
            steps = [conclude(n, results[n.id], policy=self._policy, now=now) for n in ours]
            await self._store.save([step.notification for step in steps], work.session)
            for after, event in steps:
                if event is not None:
                    work.stage(event, after.sequence, _origin(after, spans.get(after.id)))
            return steps

        steps = await self._outbox.transact(body)
        if len(steps) < len(results):
            log.warning("dispatch.claim_ran_out", lost=len(results) - len(steps))
        self._metrics.entered(step.notification for step in steps)
        for step in steps:
            self._count(results[step.notification.id], cause)

    def _count(self, result: Result, cause: str) -> None:
        if isinstance(result, Tried):
            self._metrics.attempts.labels(result.sender, result.outcome.kind.value).inc()
        elif isinstance(result, Postponed):
            self._metrics.postponed.labels(cause).inc()

    async def _gauge(self) -> None:
        if time.monotonic() - self._gauged_at >= GAUGE_SECONDS:
            self._gauged_at = time.monotonic()
            self._metrics.show_held(await self._store.held(), self._clock.now())


def _begun(batch: Sequence[Notification]) -> Iterator[tuple[str, Span]]:
    """The sending of each whose trace is recorded, from the claim to what became of it."""
    for notification in batch:
        attributes = {"sangathan.notification.id": notification.id}
        span = tracing.begin(
            "send notification", SpanKind.INTERNAL, notification.cause.traceparent, attributes
        )
        if span:
            yield notification.id, span


@contextmanager
def _working_for_the_first(batch: Sequence[Notification], spans: Spans) -> Iterator[None]:
    """A batch asks its peers once, so one trace has the calls that were made for all."""
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
