"""The worker: claims jobs that are due and takes them step by step, each in one transaction with the job's
own update.

It may be killed or frozen at any instant: a step that was not committed is taken again by whoever claims the
job next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

import structlog
from structlog.contextvars import bound_contextvars

from services.shared.jobs.claims import Claim, ClaimLostError, Claims
from services.shared.jobs.job import JobKind
from services.shared.jobs.metrics import JobMetrics
from services.shared.jobs.run import Run
from services.shared.jobs.store import Jobs
from services.shared.loops import Pace, Turn, poll_loop
from services.shared.messaging import Outbox

log = structlog.get_logger(__name__)

LEASE_SECONDS = 30.0
PUT_OFF = timedelta(seconds=10)
"""For how long a job rests whose steps keep meeting a fault that passes."""
PACE = Pace(0.05, 1.0)
"""Seconds for which an idle worker leaves a job that has become due or that another process added; our own
wake it at once."""


class JobWorker:
    """Works at up to `concurrency` jobs at once.

    A job of a kind that is not in `kinds` is left to other processes.
    """

    def __init__(
        self,
        jobs: Jobs,
        outbox: Outbox,
        kinds: Sequence[JobKind],
        metrics: JobMetrics,
        *,
        concurrency: int = 2,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._jobs = jobs
        self._outbox = outbox
        self._kinds = {kind.name: kind for kind in kinds}
        self._metrics = metrics
        self._concurrency = concurrency
        self._lease_seconds = lease_seconds
        self._busy: set[asyncio.Task[None]] = set()
        self._claims = Claims(jobs.rows, jobs.clock, lease_seconds=lease_seconds)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`, then finish the steps in hand and give their jobs back."""
        try:
            async with asyncio.TaskGroup() as working:
                turn = partial(self._claim, working, stop)
                await poll_loop("jobs", turn, stop, PACE, wake=self._jobs.added)
        except ExceptionGroup as group:
            # Its only member is what ended the loop: a job's task raises nothing.
            raise group.exceptions[0] from None

    async def _claim(self, working: asyncio.TaskGroup, stop: asyncio.Event) -> Turn:
        """Begin to work at one job that is due, if there is room for another."""
        if len(self._busy) >= self._concurrency:
            return Turn.NOTHING
        claim = await self._claims.take(self._kinds)
        if claim is None:
            return Turn.NOTHING
        task = working.create_task(self._work(claim, stop))
        self._busy.add(task)
        task.add_done_callback(self._ended)
        return Turn.MORE

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._busy.discard(task)
        self._jobs.added.set()  # there is room for another

    async def _work(self, claim: Claim, stop: asyncio.Event) -> None:
        job = claim.job
        with bound_contextvars(job=job.id, kind=job.kind, request_id=job.correlation_id):
            run = Run(claim, self._kinds[job.kind], self._claims, self._outbox, self._metrics)
            renewing = asyncio.create_task(run.keep(self._lease_seconds / 3))
            next_at: datetime | None = None
            try:
                match await run.until(stop):
                    case "ended":
                        await self._jobs.inputs.delete(job.id)
                    case "turn_over":
                        next_at = self._jobs.clock.now()
                    case "failing":
                        next_at = self._jobs.clock.now() + PUT_OFF
            except ClaimLostError:
                await self._lost(claim)
            except Exception as error:
                log.exception("job.dropped", error=type(error).__name__)
            finally:
                renewing.cancel()
                with suppress(Exception):  # else the lease runs out
                    await self._claims.give_back(claim, next_at)

    async def _lost(self, claim: Claim) -> None:
        """Say why: somebody paused or ended the job, or this process was too slow."""
        with suppress(Exception):
            state = await self._claims.state(claim)
            if state in ("paused", "cancelled"):
                log.info("job.stopped", state=state)
                self._metrics.steps.labels(claim.job.kind, "stopped").inc()
            else:
                log.warning("job.lease_lost")
                self._metrics.steps.labels(claim.job.kind, "lease_lost").inc()
