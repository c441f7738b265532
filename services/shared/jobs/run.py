"""One claim's work: step after step until the job has ended or has had its turn, the claim is lost, or this
process stops."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from typing import Literal, TypeAlias

import structlog

from services.shared.faults import MAX_RETRIES, FaultFamily, backoff_seconds, classify, describe
from services.shared.jobs.claims import Claim, ClaimLostError, Claims
from services.shared.jobs.job import ENDED, Job, JobKind
from services.shared.jobs.metrics import JobMetrics
from services.shared.loops import wait_first
from services.shared.messaging import Outbox, UnitOfWork

log = structlog.get_logger(__name__)

MAX_ATTEMPTS = 10
"""Claims in a row without a committed step, after which the job itself is taken to be what kills its workers.
"""
TURN_SECONDS = 30.0
"""After this time a job makes room for others that are due; without any, the next turn is its own again."""
PATIENCE = 6
"""Faults in a row, which take some seconds, after which it makes room for others as well."""
MAX_OUTBOX_ROWS = 5000
"""Events waiting to be published, above which no step begins."""
OUTBOX_SECONDS = 0.5

Ending: TypeAlias = Literal["ended", "resting", "turn_over", "failing", "stopped"]


class Run:
    """Works at one claimed job; `keep` runs beside `until`."""

    def __init__(
        self, claim: Claim, kind: JobKind, claims: Claims, outbox: Outbox, metrics: JobMetrics
    ) -> None:
        self._claim = claim
        self._kind = kind
        self._claims = claims
        self._outbox = outbox
        self._metrics = metrics
        self._lost = asyncio.Event()
        self._renewed_at = self._began_at = time.monotonic()

    async def keep(self, every: float) -> None:
        """Renew the lease when no step has done so for `every` seconds, until the claim is lost."""
        while not self._lost.is_set():
            left = self._renewed_at + every - time.monotonic()
            if left > 0:
                await asyncio.sleep(left)
                continue
            began = time.monotonic()
            try:
                if await self._claims.renew(self._claim):
                    self._renewed_at = began
                else:
                    self._lost.set()
            except Exception as error:
                log.warning("job.unrenewed", error=type(error).__name__)
                await asyncio.sleep(every / 4)

    async def until(self, stop: asyncio.Event) -> Ending:
        """Take steps; says why it takes no more.

        Raises: `ClaimLostError`; what MongoDB raises when the job's failure cannot be written.
        """
        if self._claim.job.attempts > MAX_ATTEMPTS:
            await self._fail("no_progress", f"claimed {MAX_ATTEMPTS} times without a step")
            return "ended"
        failures: Counter[FaultFamily] = Counter()
        while not stop.is_set():
            if self._lost.is_set():
                raise ClaimLostError
            if time.monotonic() > self._began_at + TURN_SECONDS:
                return "turn_over"
            if failures.total() - failures[FaultFamily.RACE] >= PATIENCE:
                return "failing"
            try:
                if await self._congested():
                    await wait_first(stop, self._lost, timeout=OUTBOX_SECONDS)
                    continue
                job = await self._step()
            except ClaimLostError:
                raise
            except Exception as error:
                family = classify(error)
                failures[family] += 1
                if failures[family] > MAX_RETRIES[family]:
                    await self._fail(*describe(error), error)
                    return "ended"
                self._count("retried")
                log.warning("job.retrying", error=type(error).__name__, failures=failures.total())
                await wait_first(stop, self._lost, timeout=backoff_seconds(failures.total()))
            else:
                failures.clear()
                if job.state != "running":
                    return _left(job)
        return "stopped"

    async def _congested(self) -> bool:
        rows = self._outbox.rows
        if await rows.estimated_document_count() <= MAX_OUTBOX_ROWS:
            return False
        # Rows that were set aside do not count: they wait for an operator, and jobs need not.
        most = MAX_OUTBOX_ROWS + 1
        return await rows.count_documents({"stuck": None}, limit=most) == most

    async def _step(self) -> Job:
        """Take one step; the job after it."""
        began = time.monotonic()
        effect = await self._kind.step(self._claim.job)

        async def body(work: UnitOfWork) -> Job:
            return await self._claims.advance(self._claim, await effect(work), work.session)

        job = await self._outbox.transact(body)
        self._renewed_at = time.monotonic()
        self._claim = replace(self._claim, job=job)
        self._count("committed")
        self._metrics.step_seconds.labels(self._kind.name).observe(time.monotonic() - began)
        return job

    async def _fail(self, reason: str, detail: str, error: Exception | None = None) -> None:
        await self._claims.fail(self._claim, reason, detail)
        self._count("failed")
        log.error("job.failed", reason=reason, detail=detail, exc_info=error)

    def _count(self, outcome: str) -> None:
        self._metrics.steps.labels(self._kind.name, outcome).inc()


def _left(job: Job) -> Ending:
    if job.state not in ENDED:
        return "resting"
    log.info("job.succeeded", steps=job.steps)
    return "ended"
