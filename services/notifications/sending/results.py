"""Recording the results of a batch, with the events that publish them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog

from services.notifications.core.core import Core
from services.notifications.core.domain import (
    UNRECORDABLE,
    Attempted,
    Decision,
    Deferred,
    DispatchResult,
    Notification,
    NotTaken,
    State,
    Unanswered,
    conclude,
)
from services.notifications.sending.store import QueueStore
from services.shared.contracts.base import Step
from services.shared.faults import may_pass
from services.shared.messaging import Origin, UnitOfWork, bisect
from services.shared.observability.tracing import Span, Spans

log = structlog.get_logger(__name__)


class ResultRecorder:
    def __init__(self, core: Core, queue: QueueStore) -> None:
        self._queue = queue
        self._notifications = core.notifications
        self._promises = core.promises
        self._outbox = core.runtime.outbox
        self._policy = core.policy
        self._clock = core.clock
        self._metrics = core.metrics

    async def record(
        self,
        claim: str,
        results: Mapping[str, DispatchResult],
        spans: Spans,
        decisions: Mapping[str, Decision],
        *,
        cause: str = "gate",
    ) -> set[str]:
        """Write each result, with the decision that led to it, and stage the events that publish it, in one
        transaction. Returns those that were written: the claim of the others has run out.

        A result that cannot be written is found by bisection and set aside: put back, it would be sent again
        and again. `cause` is a label of the metric: the send policy (`gate`) or another service (`peer`)
        deferred them.
        """
        recorded: set[str] = set()

        async def record(ids: Sequence[str]) -> None:
            some = {id_: results[id_] for id_ in ids}
            recorded.update(await self._record_together(claim, some, spans, decisions, cause))

        async def set_aside(id_: str, error: Exception) -> None:
            log.error("dispatch.unrecordable", notification=id_, error=type(error).__name__)
            await self._queue.set_aside(id_, claim, UNRECORDABLE, self._clock.now())
            self._metrics.isolated.labels(UNRECORDABLE).inc()
            recorded.add(id_)

        await bisect(list(results), record, set_aside, splits=lambda error: not may_pass(error))
        return recorded

    async def _record_together(
        self,
        claim: str,
        results: Mapping[str, DispatchResult],
        spans: Spans,
        decisions: Mapping[str, Decision],
        cause: str,
    ) -> set[str]:
        async def body(work: UnitOfWork) -> list[Step[Notification]]:
            ours = await self._queue.claimed(results.keys(), claim, work.session)
            now = self._clock.now()
            steps = [
                conclude(n, results[n.id], policy=self._policy, now=now, decision=decisions.get(n.id))
                for n in ours
            ]
            await self._notifications.save([step.state for step in steps], work.session)
            for after, events in steps:
                work.stage_all(events, _origin(after, spans.get(after.id)))
            await self._promises.keep(
                {n.member_id: n.cause for n, _ in steps if n.state is State.SENT and n.without}, work
            )
            return steps

        steps = await self._outbox.transact(body)
        if len(steps) < len(results):
            log.warning("dispatch.claim_ran_out", lost=len(results) - len(steps))
        self._metrics.entered(step.state for step in steps)
        for step in steps:
            self._count(results[step.state.id], cause)
            if (decision := decisions.get(step.state.id)) is not None:
                self._metrics.decisions.labels(decision.verdict, decision.reason or "").inc()
        return {step.state.id for step in steps}

    def _count(self, result: DispatchResult, cause: str) -> None:
        if isinstance(result, Attempted):
            self._metrics.attempts.labels(result.sender, result.outcome.kind.value).inc()
        elif isinstance(result, Unanswered):
            self._metrics.isolated.labels(result.reason).inc()
        elif isinstance(result, NotTaken):
            self._metrics.postponed.labels("gateway").inc()
        elif isinstance(result, Deferred):
            self._metrics.postponed.labels(cause).inc()


def _origin(notification: Notification, span: Span | None) -> Origin:
    cause = notification.cause
    return Origin(cause.correlation_id, span.traceparent if span else cause.traceparent, cause.causation_id)
