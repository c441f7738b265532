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
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Final, cast

import structlog

from services.notifications.core.channel import Gateways, Message, Sender
from services.notifications.core.core import Core
from services.notifications.core.domain import (
    DEFER,
    Decision,
    Deferred,
    DispatchResult,
    Notification,
    Unanswered,
)
from services.notifications.core.policies.domain import Policies
from services.notifications.core.recipients import Recipient
from services.notifications.core.send_policy import Ruling
from services.notifications.sending.asking import ELSEWHERE, Asking, NotAnswered
from services.notifications.sending.composing import (
    LOOK_AGAIN,
    UNKNOWN_MEMBER,
    Composer,
    Judged,
    decision_of,
    unless_allowed,
)
from services.notifications.sending.handing_over import GatewayHandover
from services.notifications.sending.results import ResultRecorder
from services.notifications.sending.routing import Batch, OneSender, Way
from services.notifications.sending.store import QueueStore
from services.shared.faults import may_pass
from services.shared.loops import Backoff, Pace, Turn, poll_loop
from services.shared.messaging import bisect
from services.shared.observability import tracing
from services.shared.observability.correlation import RequestContext, working_for
from services.shared.observability.tracing import Span, SpanKind, Spans

log = structlog.get_logger(__name__)

PACE: Final = Pace(shortest=0.02, longest=1.0)
"""An idle dispatcher notices a due retry, or what another process made due, at most a second late."""
BACKOFF: Final = Backoff(first=0.25, longest=30.0)
DISPATCHER: Final = "dispatcher"
"""The sender of a try that came to no sender."""
COMPOSING_ERROR: Final = "composing_error"
"""It cannot be judged, or its text not made: a bug of ours, or data that nobody has foreseen."""
HANDOVER_SECONDS: Final = 20.0
"""No chunk is handed to a gateway when less than this is left of a batch's time: so long it may take."""


class Dispatcher:
    def __init__(self, core: Core, sender: Sender | Gateways) -> None:
        settings = core.settings
        self._queue = QueueStore(core.runtime.database)
        self._recipients = core.recipients
        self._notifications = core.notifications
        self._policies = core.policies
        self._asking = Asking(core, sender)
        self._recorder = ResultRecorder(core, self._queue)
        self._handover: GatewayHandover | None = None
        if isinstance(sender, Gateways):
            self._handover = GatewayHandover(core, sender, self._queue, self._recorder)
        self._way: Way = self._handover or OneSender(core, cast(Sender, sender))
        self._texts = core.texts
        self._composer = Composer(core.texts, self._way.senders, self._way.approving, core.unsubscribe_links)
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
            async with self._asking.holding(claim):
                await self._handle(claim, batch, spans)
        self._metrics.batch_seconds.observe(time.perf_counter() - began)
        return found

    async def _handle(self, claim: str, batch: Sequence[Notification], spans: Spans) -> None:
        try:
            # Half the claim is for sending, the rest for recording: at its end another process may take over.
            async with asyncio.timeout(self._claim_seconds / 2):
                with _working_for_the_first(batch, spans):
                    results, decisions = await self._results(claim, batch, spans)
        except BaseException:
            await asyncio.shield(self._put_back(claim, batch))
            raise
        await self._recorder.record(claim, results, spans, decisions)
        await self._judge_again_if_changed(decisions.values())

    async def _judge_again_if_changed(self, decisions: Iterable[Decision]) -> None:
        """Policies that were put while this batch was in hand did not find what it has deferred by the ones
        before."""
        by = {each.policy for each in decisions if each.verdict == DEFER}
        if by and (await self._policies.current()).version not in by:
            await self._notifications.judge_again(self._clock.now())
            self._due.set()

    async def _results(
        self, claim: str, batch: Sequence[Notification], spans: Spans
    ) -> tuple[dict[str, DispatchResult], dict[str, Decision]]:
        """The results that are still to be recorded (what goes to gateways is recorded chunk by chunk), and
        the decisions of the send policy."""
        deadline = time.monotonic() + max(self._claim_seconds / 2 - HANDOVER_SECONDS, self._claim_seconds / 8)
        handed = [n for n in batch if n.handed is not None]
        results: dict[str, DispatchResult] = {n.id: Deferred(self._clock.now()) for n in handed}
        if handed and self._handover is not None:
            results |= await self._handover.settle(handed)
        batch = [n for n in batch if n.handed is None]
        policies = await self._policies.current()
        await self._texts.refresh()
        recipients = await self._recipients.by_id({n.member_id for n in batch})
        decisions: dict[str, Decision] = {}
        passed: list[tuple[Notification, Recipient]] = []
        for notification in batch:
            now = self._clock.now()
            recipient = recipients.get(notification.member_id)
            if recipient is None:  # a rebuild has not come that far
                results[notification.id] = Deferred(now + LOOK_AGAIN)
                continue
            try:
                verdict = self._composer.check(notification, recipient, now, policies)
            except Exception as error:  # it asks nobody, so the fault is this one's own
                results[notification.id] = _not_composed(notification, error)
                continue
            stopped = unless_allowed(verdict, now)
            if stopped is None:
                passed.append((notification, recipient))
            else:
                results[notification.id] = stopped
                decisions[notification.id] = decision_of(verdict, policies, now)
        if passed:
            made, messages, judged = await self._composed_or_failed(claim, passed, policies)
            decisions |= judged
            numbers = {n.id: len(n.attempts) + 1 for n, _ in passed}
            results |= made
            handing = Batch(claim, numbers, spans, deadline, decisions, policies)
            results |= await self._way.hand_over(handing, messages)
        return results, decisions

    async def _composed_or_failed(
        self, claim: str, passed: Sequence[tuple[Notification, Recipient]], policies: Policies
    ) -> tuple[dict[str, DispatchResult], list[Message], dict[str, Decision]]:
        """As `_composed`. A fault that does not pass is found by bisection, and is a failed try of that one
        notification."""
        results: dict[str, DispatchResult] = {}
        messages: list[Message] = []
        decisions: dict[str, Decision] = {}
        promised: dict[str, list[tuple[str, datetime]]] = {}

        async def compose(part: Sequence[tuple[Notification, Recipient]]) -> None:
            about_to_go = defaultdict(list, {id_: list(sent) for id_, sent in promised.items()})
            made, ready, judged = await self._composed(claim, part, policies, about_to_go)
            results.update(made)
            messages.extend(ready)
            decisions.update(judged)
            promised.update(about_to_go)

        async def fail(one: tuple[Notification, Recipient], error: Exception) -> None:
            results[one[0].id] = _not_composed(one[0], error)

        # Those that were tried before come last: if one of them spoils an answer, it is among few.
        passed = sorted(passed, key=lambda each: len(each[0].attempts))
        await bisect(passed, compose, fail, splits=lambda error: not may_pass(error))
        return results, messages, decisions

    async def _composed(
        self,
        claim: str,
        passed: Sequence[tuple[Notification, Recipient]],
        policies: Policies,
        promised: defaultdict[str, list[tuple[str, datetime]]],
    ) -> tuple[dict[str, DispatchResult], list[Message], dict[str, Decision]]:
        """The messages that may go, the results of the others, and the decisions about all. `promised` is
        about to go to each member in this very batch: it counts for the caps, too."""
        now = self._clock.now()
        results: dict[str, DispatchResult] = {}
        judged: dict[str, Judged] = {}
        for id_, answer in (await self._asking.ask(passed, policies, now)).items():
            if isinstance(answer, NotAnswered):
                if answer.reason is None:
                    results[id_] = Unanswered(answer.peer, UNKNOWN_MEMBER)
                else:
                    results[id_] = self._composer.unanswered(answer.peer, answer.reason, now)
            elif answer.contact.consents is None:
                results[id_] = Deferred(now + LOOK_AGAIN)
            else:
                member_id = answer.notification.member_id
                asked = replace(answer, sent=(*answer.sent, *promised[member_id]))
                judged[id_] = self._composer.judge(asked, now, policies)
                if judged[id_].verdict.ruling is Ruling.ALLOW:
                    promised[member_id].append((answer.notification.purpose, now))
        going = [
            (each.asked, each.verdict.channel)
            for each in judged.values()
            if each.verdict.ruling is Ruling.ALLOW and each.verdict.channel is not None
        ]
        here = await self._asking.only_here(going, policies, claim, self._claim_seconds / 2)
        for id_ in {asked.notification.id for asked, _ in going} - here:
            del judged[id_]
            results[id_] = Deferred(now + ELSEWHERE)
        going = [(asked, channel) for asked, channel in going if asked.notification.id in here]
        for id_, asked in (await self._asking.take_places(going, policies, now)).items():
            judged[id_] = self._composer.judge(asked, now, policies)
        messages: list[Message] = []
        decisions: dict[str, Decision] = {}
        for id_, each in judged.items():
            decisions[id_] = decision_of(each.verdict, policies, now)
            made = self._composer.compose(each, now)
            if isinstance(made, Message):
                messages.append(made)
            else:
                results[id_] = made
        return results, messages, decisions

    async def _put_back(self, claim: str, batch: Sequence[Notification]) -> None:
        """Give up the claim at once, so that nobody waits for its end. If even that fails, it runs out."""
        now = self._clock.now()
        try:
            await self._recorder.record(claim, {n.id: Deferred(now) for n in batch}, {}, {}, cause="peer")
        except Exception as error:
            log.warning("dispatch.claim_left_to_run_out", error=type(error).__name__, count=len(batch))


def _not_composed(notification: Notification, error: Exception) -> Unanswered:
    log.error("dispatch.not_composed", notification=notification.id, error=type(error).__name__)
    return Unanswered(DISPATCHER, COMPOSING_ERROR)


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
