"""The supervisor of background loops: starts them, restarts a loop that fails, and stops them within a
deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from services.shared.faults import backoff_seconds
from services.shared.loops import Loop, wait_first
from services.shared.messaging import MessagingMetrics

log = structlog.get_logger(__name__)


class Supervisor:
    """Runs `loops` by name; the first of them is the last to stop."""

    def __init__(self, loops: Mapping[str, Loop], metrics: MessagingMetrics) -> None:
        self._loops = loops
        self._metrics = metrics
        self._running: dict[str, tuple[asyncio.Event, asyncio.Task[None]]] = {}
        for name in loops:
            metrics.loop_restarts.labels(name)  # start at 0: `increase` misses a series' first value

    def start(self) -> None:
        for name, loop in self._loops.items():
            stop = asyncio.Event()
            self._running[name] = (stop, asyncio.create_task(self._supervise(name, loop, stop), name=name))

    async def stop(self, seconds: float) -> None:
        """Stop the loops in reverse order: the consumer before the relay, which publishes the events that the
        consumer staged.

        All loops share the deadline. A loop still running then is cancelled, and its work is delivered again
        later.
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
                await wait_first(stop, timeout=0.2 + backoff_seconds(failures))
