"""Background loops: `poll_loop`, which repeats one piece of work until it is stopped, and how loops wait."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple

import structlog

from services.shared.faults import FaultFamily, backoff_seconds, classify

log = structlog.get_logger(__name__)

Loop = Callable[[asyncio.Event], Awaitable[None]]
"""A coroutine that runs until the event is set, then finishes its current work and returns."""


class Turn(enum.Enum):
    """How much work one turn of a loop found."""

    NOTHING = enum.auto()
    SOME = enum.auto()
    MORE = enum.auto()
    """A full batch: more is probably waiting, so the next turn follows at once."""

    @classmethod
    def of(cls, found: int, most: int) -> Turn:
        """Classify a turn that found `found` items and takes `most` at once."""
        if not found:
            return cls.NOTHING
        return cls.MORE if found >= most else cls.SOME


class Pace(NamedTuple):
    """Seconds between turns: `shortest` after a turn that found work, doubling to `longest` while turns find
    none."""

    shortest: float
    longest: float

    @classmethod
    def every(cls, seconds: float) -> Pace:
        return cls(seconds, seconds)


class Backoff(NamedTuple):
    """Seconds between retries of a failed turn: jittered, doubling from `first` to `longest`."""

    first: float = 0.05
    longest: float = 10.0


DEFAULT_BACKOFF = Backoff()


def _ignore() -> None: ...


async def poll_loop(
    name: str,
    work: Callable[[], Awaitable[Turn]],
    stop: asyncio.Event,
    pace: Pace,
    *,
    wake: asyncio.Event | None = None,
    backoff: Backoff = DEFAULT_BACKOFF,
    on_retry: Callable[[], None] = _ignore,
) -> None:
    """Repeat `work` until `stop`, at `pace` or as soon as `wake` is set. A transient fault is retried with
    back-off.

    Raises: any permanent fault of `work`, for the supervisor to log and restart the loop.
    """
    pause, failures = pace.shortest, 0
    while not stop.is_set():
        try:
            turn = await work()
        except Exception as error:
            if classify(error) is FaultFamily.PERMANENT:
                raise
            failures += 1
            log.warning("loop.retrying", loop=name, error=type(error).__name__, failures=failures)
            on_retry()
            await wait_first(
                stop, timeout=backoff_seconds(failures, first=backoff.first, longest=backoff.longest)
            )
            continue
        failures = 0
        pause = min(pace.longest, pause * 2) if turn is Turn.NOTHING else pace.shortest
        if turn is not Turn.MORE:
            await wait_first(stop, *((wake,) if wake else ()), timeout=pause)
            if wake:
                wake.clear()


async def wait_first(*events: asyncio.Event, timeout: float) -> None:
    """Wait for the first of the events, or until `timeout` seconds have passed."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def run_together(runs: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Wait for all of them, even after one has failed; then raise the first failure."""
    if len(runs) == 1:
        await runs[0]
        return
    for outcome in await asyncio.gather(*runs, return_exceptions=True):
        if outcome is not None:
            raise outcome
