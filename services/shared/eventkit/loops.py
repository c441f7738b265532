"""Background loops: started together, restarted when they fail, stopped within a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import structlog

from services.shared.eventkit.errors import backoff_seconds
from services.shared.eventkit.metrics import EventkitMetrics

log = structlog.get_logger(__name__)

Loop = Callable[[asyncio.Event], Awaitable[None]]
"""Runs until the event is set, then finishes what it has in hand and returns."""


async def first(*events: asyncio.Event, timeout: float) -> None:
    """Wait for the first of the events, or the time."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def together(runs: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Wait for all, also after one has failed; then raise the first failure."""
    if len(runs) == 1:
        await runs[0]
        return
    for outcome in await asyncio.gather(*runs, return_exceptions=True):
        if outcome is not None:
            raise outcome


class Loops:
    def __init__(self, metrics: EventkitMetrics) -> None:
        self._metrics = metrics
        self._loops: dict[str, Loop] = {}
        self._running: dict[str, tuple[asyncio.Event, asyncio.Task[None]]] = {}

    def add(self, name: str, loop: Loop) -> None:
        self._loops[name] = loop
        self._metrics.loop_restarts.labels(name)  # 0 from the start: `increase` does not see a series begin

    def start(self) -> None:
        for name, loop in self._loops.items():
            stop = asyncio.Event()
            self._running[name] = (stop, asyncio.create_task(self._supervise(name, loop, stop), name=name))

    async def stop(self, seconds: float) -> None:
        """Stop the loops last added first: a consumer ends before the relay that publishes what it staged.

        Each shares the deadline; what has not ended by then is cancelled, and delivered again later.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        for name, (stop, task) in reversed(self._running.items()):
            stop.set()
            left = max(0.1, deadline - asyncio.get_running_loop().time())
            _, late = await asyncio.wait({task}, timeout=left)
            if late:
                log.warning("loop.cancelled", loop=name)
                task.cancel()
                await asyncio.wait({task}, timeout=1.0)

    async def _supervise(self, name: str, loop: Loop, stop: asyncio.Event) -> None:
        failures = 0
        while not stop.is_set():
            try:
                await loop(stop)
                failures = 0
            except Exception as error:
                failures += 1
                self._metrics.loop_restarts.labels(name).inc()
                log.exception("loop.failed", loop=name, error=type(error).__name__, failures=failures)
                await first(stop, timeout=0.2 + backoff_seconds(failures))
