"""Metrics of projections: which version is live, how old it is, and whether a build makes progress."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge

if TYPE_CHECKING:
    from services.analytics.projections.service import ProjectionState


class ProjectionMetrics:
    """Every process shows the same, for all read the same pointer."""

    def __init__(self, registry: CollectorRegistry, names: Sequence[str]) -> None:
        def gauge(name: str, meaning: str) -> Gauge:
            return Gauge(f"sangathan_projection_{name}", meaning, ["projection"], registry=registry)

        self._version = gauge("version", "Version that is live; 0 until the first is built.")
        self._wanted = gauge("wanted_version", "Version of this release.")
        self._age = gauge("age_seconds", "Since when the live one is in use, in seconds; 0 for none.")
        self._progress = gauge("build_progress_ratio", "How far its build is; 1 while none is going on.")
        self._stalled = gauge(
            "build_stalled_seconds",
            "For how long its build, or the wait for one, has made no progress; 0 while none is needed.",
        )
        self._gauges = (self._version, self._wanted, self._age, self._progress, self._stalled)
        for name in names:
            for each in self._gauges:
                each.labels(name)

    def show(self, states: Sequence[ProjectionState], now: datetime) -> None:
        for state in states:
            job = state.building
            self._version.labels(state.name).set(state.version or 0)
            self._wanted.labels(state.name).set(state.wanted)
            self._age.labels(state.name).set((now - state.since).total_seconds() if state.since else 0)
            ratio = job.done / job.total if job and job.total else 0.0
            self._progress.labels(state.name).set(1.0 if job is None or is_live(state) else ratio)
            stalled = 0.0
            if job and not is_live(state):
                moved = (job.cursor or {}).get("moved_at", job.created_at)
                stalled = max(0.0, (now - moved).total_seconds())
            self._stalled.labels(state.name).set(stalled)


def is_live(state: ProjectionState) -> bool:
    """Whether the build has gone live already, and only follows older processes for a while."""
    job = state.building
    return bool(job and (job.cursor or {}).get("phase") == "overlap")
