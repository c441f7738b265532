"""Measures the time from the accepted POST to the figures, from outside."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from infra.local.demo.api import Api

POLL_SECONDS = 0.02
SETTLED = ("sent", "suppressed", "failed")


@dataclass(frozen=True)
class Sample:
    """The counts that analytics showed at one moment."""

    at: datetime
    members: int
    welcomes: int


@dataclass
class Watcher:
    """Polls the overview while inside its `async with` block."""

    api: Api
    samples: list[Sample] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self.samples.append(await self._look())
        self._task = asyncio.create_task(self._keep_looking())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self.samples.append(await self._look())

    async def _keep_looking(self) -> None:
        while True:
            self.samples.append(await self._look())
            await asyncio.sleep(POLL_SECONDS)

    async def _look(self) -> Sample:
        overview = await self.api.get("analytics", "/v1/overview")
        states = overview["notifications"]["by_state"]
        welcomes = sum(states.get(state, 0) for state in SETTLED)
        return Sample(datetime.now(UTC), overview["members"]["total"], welcomes)


def waits(arrived: Sequence[datetime], seen: Iterable[tuple[datetime, int]]) -> list[float]:
    """Seconds from the n-th arrival to the first sample that counts n more than the first sample.

    The figures do not identify members, so arrivals are paired with counts in order. `arrived` is sorted. An
    arrival that was never counted is infinite.
    """
    looks = list(seen)
    base = looks[0][1] if looks else 0
    found: list[float] = []
    position = 0
    for n, at in enumerate(arrived, 1):
        while position < len(looks) and looks[position][1] < base + n:
            position += 1
        late = position == len(looks)
        found.append(math.inf if late else max(0.0, (looks[position][0] - at).total_seconds()))
    return found


def percentile(seconds: Sequence[float], percent: int) -> float | None:
    """The nearest-rank percentile; None when `seconds` is empty."""
    if not seconds:
        return None
    return sorted(seconds)[max(0, math.ceil(len(seconds) * percent / 100) - 1)]
