"""Stopping: on SIGTERM, report not ready first, keep answering for a while, then stop; and stop in time.

A load balancer notices a stop only at its next check, and Kubernetes removes an endpoint while the process is
already stopping. So SIGTERM first makes `/readyz` fail and every answer close its connection, which moves
kept-alive clients to other processes. The listener closes only after the drain.

A signal counts from the moment `StopSignals` is installed, long before there is a server. From then on a
watchdog runs, which ends the process when its time is over, whatever still hangs: a thread in a driver that
waits for a database that does not answer would keep the interpreter from exiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Final

import structlog
import uvicorn

from services.shared.http.connections import SWEEP_SECONDS, ConnectionGuard

log = structlog.get_logger(__name__)

STARTUP_FAILURE: Final = 3
"""uvicorn's exit status when it cannot start."""
GRACEFUL_SECONDS: Final = 2
"""How long requests in progress may take after the drain."""


class StopSignals:
    """The signals that stop this process, and the watchdog that they start.

    When `seconds` have passed since the first one and the process still runs, the watchdog (of
    `faulthandler`: it needs neither the event loop nor the interpreter's lock) writes the stack of each
    thread to stderr and exits with status 1.
    """

    def __init__(self, seconds: float) -> None:
        self.received: int | None = None
        self._seconds = seconds

    def install(self) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, self.heed)

    def heed(self, sig: int, _: FrameType | None = None) -> None:
        if self.received is None:
            self.received = sig
            faulthandler.dump_traceback_later(self._seconds, exit=True)


class Draining:
    """Whether this process has begun to drain; shared by the application and its server."""

    __slots__ = ("begun",)

    def __init__(self) -> None:
        self.begun = False


class DrainingServer(uvicorn.Server):
    """A server that stops `seconds` after SIGTERM; at once after SIGINT, a second signal, or a signal before
    it has started."""

    def __init__(
        self,
        config: uvicorn.Config,
        draining: Draining,
        guard: ConnectionGuard,
        seconds: float,
        signals: StopSignals,
    ) -> None:
        super().__init__(config)
        self._draining = draining
        self._guard = guard
        self._seconds = seconds
        self._signals = signals

    def run_until_stopped(self) -> None:
        """Serve until a signal, the one that came already included.

        Raises: `SystemExit` when the server could not start.
        """
        if self._signals.received is not None:
            return
        self.run()
        if not self.started:
            sys.exit(STARTUP_FAILURE)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            if self._signals.received is not None:  # before this server took the signals over
                self.should_exit = True
            yield

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second."""
        if counter % (10 * SWEEP_SECONDS) == 0:
            self._guard.sweep(self.server_state.connections)
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._signals.heed(sig)
        stop = super().handle_exit
        if sig != signal.SIGTERM or self._draining.begun or not self._seconds or not self.started:
            stop(sig, frame)
            return
        self._draining.begun = True
        log.info("server.draining", seconds=self._seconds)
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(loop.call_later, self._seconds, stop, sig, frame)
