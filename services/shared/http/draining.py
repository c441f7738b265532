"""Leaving a load balancer before leaving its clients: not ready first, and answering for a while yet.

A balancer hears of a stop only when it asks the next time, and Kubernetes takes an endpoint away while the process is
already stopping. So SIGTERM first makes `/readyz` fail and every answer close its connection, which moves kept-alive
clients elsewhere; only after the drain does the listener close.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from types import FrameType

import structlog
import uvicorn

log = structlog.get_logger(__name__)

STARTUP_FAILURE = 3
"""uvicorn's own exit status."""


class Draining:
    """Whether this process is on its way out; the application and its server share one."""

    __slots__ = ("begun",)

    def __init__(self) -> None:
        self.begun = False


class DrainingServer(uvicorn.Server):
    """Stops `seconds` after SIGTERM; at once after SIGINT, a second signal, or one that comes before the start."""

    def __init__(self, config: uvicorn.Config, draining: Draining, seconds: float) -> None:
        super().__init__(config)
        self._draining = draining
        self._seconds = seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        stop = super().handle_exit
        if sig != signal.SIGTERM or self._draining.begun or not self._seconds or not self.started:
            stop(sig, frame)
            return
        self._draining.begun = True
        log.info("server.draining", seconds=self._seconds)
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(loop.call_later, self._seconds, stop, sig, frame)


def run(config: uvicorn.Config, draining: Draining, seconds: float) -> None:
    """Serve until a signal. Raises: `SystemExit` when it could not start."""
    server = DrainingServer(config, draining, seconds)
    server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)
