"""A supervised child process: start it, wait until it is ready, restart it when it crashes, stop it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from infra.local.errors import LocalError
from infra.local.spawn import spawn

log = logging.getLogger(__name__)

STOP_WITHIN = 10.0  # seconds between SIGTERM and SIGKILL
_POLL = 0.1
DISK_FULL = os.strerror(errno.ENOSPC)
_NOISE = ("weak version `GLIBC",)  # the loader's warning about the embedded broker's binary; harmless


class State(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    WAITING = "restarting"
    SILENT = "not answering"
    """It was ready, and does not answer now: frozen, or too busy."""
    STOPPING = "stopping"


class ChildFailed(LocalError):
    """A child did not become ready; `code` is its exit code (negative: a signal), None if it still runs."""

    def __init__(self, name: str, code: int | None, log_file: Path, last_words: str) -> None:
        self.name, self.code, self.last_words = name, code, last_words
        fate = (
            "did not become ready in time" if code is None else f"exited with code {code} before it was ready"
        )
        if DISK_FULL in last_words:
            fate += ": the disk is full"
        super().__init__(f"{name} {fate}; see {log_file}" + (f"\n{last_words}" if last_words else ""))


@dataclass
class Backoff:
    """Seconds to wait before the next restart: doubles, and returns to `first` after a calm spell."""

    first: float = 0.2
    longest: float = 10.0
    calm: float = 30.0
    _next: float = field(default=0.0, init=False)

    def after(self, lived: float) -> float:
        """The wait, given how many seconds the child lived this time."""
        wait = self.first if lived >= self.calm or not self._next else self._next
        self._next = min(wait * 2, self.longest)
        return wait


@dataclass
class Child:
    """One child process. `prepare` runs before each start; `ready` is polled until true; `recover` runs after
    each restart, once ready; `explain` rewords a failure."""

    name: str
    command: Sequence[str]
    log_file: Path
    ready: Callable[[], Awaitable[bool]]
    env: Mapping[str, str] | None = None
    ready_within: float = 30.0
    restart: bool = True
    backoff: Backoff = field(default_factory=Backoff)
    prepare: Callable[[], Awaitable[None]] | None = None
    recover: Callable[[], Awaitable[None]] | None = None
    death_signal: signal.Signals = signal.SIGKILL
    explain: Callable[[ChildFailed], LocalError] = lambda failure: failure
    state: State = field(default=State.STOPPED, init=False)
    restarts: int = field(default=0, init=False)
    exit_codes: list[int] = field(default_factory=list, init=False)
    _process: asyncio.subprocess.Process | None = field(default=None, init=False)
    _keeper: asyncio.Task[None] | None = field(default=None, init=False)
    _born: float = field(default=0.0, init=False)

    @property
    def pid(self) -> int:
        """The process id of the current incarnation."""
        if self._process is None:
            raise LocalError(f"{self.name} was never started")
        return self._process.pid

    @property
    def uptime(self) -> float:
        """Seconds since this incarnation started; 0 when none runs."""
        return time.monotonic() - self._born if self._alive else 0.0

    @property
    def _alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start, wait until ready, then supervise.

        :raises LocalError: it exited, or was not ready within `ready_within` seconds; nothing is left running
        """
        self.log_file.unlink(missing_ok=True)
        try:
            await self._launch()
        except BaseException:
            await self.stop()
            raise
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def stop(self, within: float = STOP_WITHIN) -> None:
        """Send SIGTERM, and SIGKILL if it still runs after `within` seconds. Idempotent."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        await self._end(within)
        self.state = State.STOPPED

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the current incarnation, if it runs."""
        if self._process is not None and self._alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def kill(self) -> None:
        """Send SIGKILL, like a crash; with `restart` the child comes back."""
        if self.state is State.READY:
            self.state = State.WAITING  # at once, so that wait_ready() cannot see the dead process's state
        self.signal(signal.SIGKILL)

    async def look(self) -> State:
        """The state now. A child that was ready is asked again: a frozen one neither exits nor says so."""
        if self.state is State.READY and not (_runs(self.pid) and await self.ready()):
            return State.SILENT if self.state is State.READY else self.state
        return self.state

    async def wait_ready(self, within: float = 60.0) -> None:
        """Wait until the child is ready (again).

        :raises LocalError: it is not ready within `within` seconds
        """
        deadline = time.monotonic() + within
        while not (self.state is State.READY and await self.ready()):
            if time.monotonic() > deadline or self.state is State.STOPPED:
                raise self._failure()
            await asyncio.sleep(_POLL)

    async def _launch(self) -> None:
        self.state = State.STARTING
        if self.prepare is not None:
            await self.prepare()
        self._born = time.monotonic()
        self._process = await spawn(
            self.command, log=self.log_file, env=self.env, death_signal=self.death_signal
        )
        while not await self.ready():
            if not self._alive or time.monotonic() - self._born > self.ready_within:
                raise self._failure()
            await asyncio.sleep(_POLL)
        self.state = State.READY

    async def _keep(self) -> None:
        while self._process is not None:
            code = await self._process.wait()
            self.exit_codes.append(code)
            if not self.restart:
                self.state = State.STOPPED
                log.warning("%s exited with code %s", self.name, code)
                return
            self.state = State.WAITING
            wait = self.backoff.after(time.monotonic() - self._born)
            log.warning("%s exited with code %s; restarting in %.1f s", self.name, code, wait)
            await asyncio.sleep(wait)
            await self._relaunch()

    async def _relaunch(self) -> None:
        self.restarts += 1
        try:
            await self._launch()
            if self.recover is not None:
                await self.recover()
            log.warning("%s is back (restart %d)", self.name, self.restarts)
        except Exception as problem:
            log.warning("%s: %s", self.name, problem)
            await self._end(STOP_WITHIN)  # alive but not ready counts as a crash

    async def _end(self, within: float) -> None:
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)  # a frozen child cannot receive SIGTERM
        if self._process is None:
            return
        try:
            await asyncio.wait_for(self._process.wait(), within)
        except (TimeoutError, asyncio.CancelledError) as cause:
            self.signal(signal.SIGKILL)
            await self._process.wait()
            if isinstance(cause, asyncio.CancelledError):
                raise
            log.warning("%s did not stop within %.0f s and was killed", self.name, within)

    def _failure(self) -> LocalError:
        code = self._process.returncode if self._process is not None else None
        return self.explain(ChildFailed(self.name, code, self.log_file, tail(self.log_file)))


def _runs(pid: int) -> bool:
    """Whether the process is neither frozen (SIGSTOP, a debugger) nor gone. A frozen one still accepts
    connections: the kernel does that for it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "TtZX"


def tail(log_file: Path, lines: int = 5) -> str:
    """The last lines of a child's log, without known noise; empty without a log."""
    if not log_file.exists():
        return ""
    text = log_file.read_text(errors="replace").splitlines()
    return "\n".join([line for line in text if not any(noise in line for noise in _NOISE)][-lines:])
