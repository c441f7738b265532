"""The metrics of long work.

A job of a kind that this process does not know is counted under the kind `other`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client import Counter as Total

from services.shared.database import Document
from services.shared.jobs.claims import UNCLAIMED
from services.shared.jobs.job import LIVE, STATES
from services.shared.jobs.store import Jobs
from services.shared.loops import Pace, Turn, poll_loop
from services.shared.messaging import SECONDS

COUNT_SECONDS = 10.0
SOON = timedelta(minutes=1)
"""A job that is due is put off by less than this."""
OUTCOMES = ("committed", "retried", "failed", "lease_lost", "stopped")
OTHER = "other"


class JobMetrics:
    """Registered once per process. `kinds` are the kinds that this service has."""

    def __init__(self, registry: CollectorRegistry, kinds: Sequence[str]) -> None:
        self.kinds = (*kinds, OTHER)
        self.jobs = _gauge(registry, "", "Jobs of the service by kind and state.", "kind", "state")
        self.due_age = _gauge(
            registry,
            "_oldest_due_age_seconds",
            "For how long a job that is due has had nobody who works at it.",
        )
        self.unprogressed = _gauge(
            registry,
            "_unprogressed_seconds",
            "For how long an unfinished job that is due and not paused has made no step.",
        )
        self.progress = _gauge(
            registry, "_progress_ratio", "The lowest done / total of the running jobs; 0 while none runs."
        )
        self.steps = Total(
            "sangathan_job_steps",
            f"Steps by kind and outcome ({', '.join(OUTCOMES)}: the job was paused or cancelled meanwhile).",
            ["kind", "outcome"],
            registry=registry,
        )
        self.step_seconds = Histogram(
            "sangathan_job_step_seconds",
            "From the start of a step to its commit.",
            ["kind"],
            buckets=(*SECONDS, 60),
            registry=registry,
        )
        for kind in kinds:
            self.step_seconds.labels(kind)
            for outcome in OUTCOMES:
                self.steps.labels(kind, outcome)
        self.show([], [])

    def show(self, counts: Sequence[Document], live: Sequence[Document]) -> None:
        """Set the gauges.

        `counts` are `{_id: {kind, state}, n}`. `live` are `{_id: kind, due_age, unprogressed, ratio}` of the
        jobs that are due: seconds and a share, or None.
        """
        jobs = Counter({(kind, state): 0 for kind in self.kinds for state in STATES})
        for row in counts:
            jobs[self._known(row["_id"]["kind"]), row["_id"]["state"]] += row["n"]
        for (kind, state), n in jobs.items():
            self.jobs.labels(kind, state).set(n)
        for kind in self.kinds:
            rows = [row for row in live if self._known(row["_id"]) == kind]
            self.due_age.labels(kind).set(max((row["due_age"] or 0.0 for row in rows), default=0.0))
            self.unprogressed.labels(kind).set(max((row["unprogressed"] for row in rows), default=0.0))
            ratios = [row["ratio"] for row in rows if row["ratio"] is not None]
            self.progress.labels(kind).set(min(ratios, default=0.0))

    def _known(self, kind: str) -> str:
        return kind if kind in self.kinds else OTHER


class JobGauges:
    """Counts the jobs of the database; every process shows the same."""

    def __init__(self, jobs: Jobs, metrics: JobMetrics) -> None:
        self._rows = jobs.rows
        self._clock = jobs.clock
        self._metrics = metrics

    async def watch(self, stop: asyncio.Event) -> None:
        """Count every ten seconds until `stop`."""
        await poll_loop("job-gauges", self.count, stop, Pace.every(COUNT_SECONDS))

    async def count(self) -> Turn:
        each = {"$group": {"_id": {"kind": "$kind", "state": "$state"}, "n": {"$sum": 1}}}
        counts = await self._rows.aggregate([each], hint="state_1_kind_1_next_at_1").to_list(None)
        live = await self._rows.aggregate(_live(self._clock.now())).to_list(None)
        self._metrics.show(counts, live)
        return Turn.NOTHING


def _live(now: datetime) -> list[Document]:
    """A pipeline that groups, by kind, the jobs that are due and neither paused nor ended."""
    idle = {"$divide": [{"$subtract": [now, {"$max": ["$due_at", "$progressed_at"]}]}, 1000]}
    running, total = {"$eq": ["$state", "running"]}, "$progress.total"
    ratio = {"$divide": ["$progress.done", total]}
    return [
        # The second condition follows from the first but for a moment, and spares reading what is due in a
        # month.
        {"$match": {"state": {"$in": LIVE}, "due_at": {"$lte": now}, "next_at": {"$lte": now + SOON}}},
        {
            "$group": {
                "_id": "$kind",
                "due_age": {"$max": {"$cond": [UNCLAIMED["$expr"], idle, None]}},
                "unprogressed": {"$max": idle},
                "ratio": {"$min": {"$cond": [{"$and": [running, {"$gt": [total, 0]}]}, ratio, None]}},
            }
        },
    ]


def _gauge(registry: CollectorRegistry, name: str, meaning: str, *labels: str) -> Gauge:
    return Gauge(f"sangathan_jobs{name}", meaning, labels or ("kind",), registry=registry)
