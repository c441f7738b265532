"""Draining: on SIGTERM, report not ready first, and keep answering for a while before stopping.

A load balancer notices a stop only at its next check, and Kubernetes removes an endpoint while the process is
already stopping. So SIGTERM first makes `/readyz` fail and every answer close its connection, which moves
kept-alive clients to other processes. The listener closes only after the drain.
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
"""uvicorn's exit status when it cannot start."""


class Draining:
    """Whether this process has begun to drain; shared by the application and its server."""

    __slots__ = ("begun",)

    def __init__(self) -> None:
        self.begun = False


class DrainingServer(uvicorn.Server):
    """A server that stops `seconds` after SIGTERM; at once after SIGINT, a second signal, or a signal before
    it has started."""

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
    """Serve until a signal. Raises: `SystemExit` when the server could not start."""
    server = DrainingServer(config, draining, seconds)
    server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)
