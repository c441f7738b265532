"""Callbacks to the system under test: a small HTTP client, retries with backoff, and a record of the answers.

The client is written by hand over httptools. Measured side by side, with the receiver in the same process, a
POST costs 1.9 ms of processor time by httpx2 and 0.2 ms by this one; at 300 callbacks a second httpx2 would
take half a core from the system that is measured.

Callbacks go to this machine only: any other host is refused and counted, so that a wrong address in a test
never reaches somebody's server.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
MAX_WAITING: Final = 200_000
"""Callbacks that wait for a free connection or a retry; one more is dropped and counted."""
_MAX_ANSWER: Final = 2**20


class CallbackFailedError(Exception):
    """No HTTP answer: refused, broken off, or not in time."""


@dataclass(slots=True)
class Callback:
    """One request to the system under test. `attempt` counts from 1."""

    method: str
    url: str
    headers: Sequence[tuple[str, str]]
    body: bytes = b""
    attempt: int = 1
    label: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """How one attempt ended; `status` 0 means without an HTTP answer."""

    label: str
    attempt: int
    status: int
    seconds: float
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Retries:
    """When a gateway tries again.

    `delays`    seconds before the second, third, ... attempt; after the last one the callback is given up
    `timeout`   seconds that an answer may take
    `accepted`  statuses that end it
    """

    delays: tuple[float, ...]
    timeout: float
    accepted: Collection[int]


class CallbackSender:
    """Sends callbacks over `connections` kept-alive connections, each one after the other.

    `per_second` bounds the rate; None is as fast as they are answered.
    """

    def __init__(self, retries: Retries, connections: int = 8, per_second: float | None = None) -> None:
        self.retries = retries
        self.per_second = per_second
        self.statuses: Counter[int] = Counter()
        """Attempts by status; 0 is without an answer."""
        self.recent: deque[Answered] = deque(maxlen=10_000)
        self.accepted = self.given_up = self.retried = self.dropped = self.refused_hosts = 0
        self.on_given_up: Callable[[Callback], None] = lambda callback: None
        self._connections = connections
        self._queue: asyncio.Queue[Callback] = asyncio.Queue()
        self._unfinished = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._workers: list[asyncio.Task[None]] = []
        self._slot = 0.0

    @property
    def unfinished(self) -> int:
        """Callbacks neither accepted nor given up."""
        return self._unfinished

    def start(self) -> None:
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._connections)]

    async def stop(self) -> None:
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    def send(self, callback: Callback) -> bool:
        """Send it; False when it is not sent: another host, or too many wait."""
        if urlsplit(callback.url).hostname not in LOOPBACK:
            self.refused_hosts += 1
            return False
        if self._unfinished >= MAX_WAITING:
            self.dropped += 1
            return False
        self._unfinished += 1
        self._idle.clear()
        self._queue.put_nowait(callback)
        return True

    async def idle(self) -> None:
        """Wait until every callback is accepted or given up."""
        await self._idle.wait()

    def slowest(self, share: float) -> float:
        """Seconds within which `share` of the recent answers came, such as 0.99; 0 without answers."""
        taken = sorted(each.seconds for each in self.recent if each.status)
        return taken[min(len(taken) - 1, int(len(taken) * share))] if taken else 0.0

    def summary(self) -> dict[str, object]:
        """Counts, for the control API."""
        return {
            "accepted": self.accepted,
            "given_up": self.given_up,
            "retried": self.retried,
            "dropped": self.dropped,
            "refused_hosts": self.refused_hosts,
            "unfinished": self._unfinished,
            "statuses": {str(status): count for status, count in self.statuses.items()},
            "p50": round(self.slowest(0.5), 4),
            "p99": round(self.slowest(0.99), 4),
        }

    async def _work(self) -> None:
        lines: dict[tuple[str, int], HttpConnection] = {}
        try:
            while True:
                callback = await self._queue.get()
                if self.per_second:
                    await self._await_slot(self.per_second)
                await self._attempt(callback, lines)
        finally:
            for line in lines.values():
                line.close()

    async def _await_slot(self, per_second: float) -> None:
        now = time.monotonic()
        self._slot = max(self._slot + 1 / per_second, now)
        if self._slot > now:
            await asyncio.sleep(self._slot - now)

    async def _attempt(self, callback: Callback, lines: dict[tuple[str, int], HttpConnection]) -> None:
        began = time.perf_counter()
        try:
            status, body = await _send(callback, lines, self.retries.timeout)
        except CallbackFailedError:
            status, body = 0, b""
        self.statuses[status] += 1
        seconds = time.perf_counter() - began
        self.recent.append(Answered(callback.label, callback.attempt, status, seconds, body[:200]))
        if status in self.retries.accepted:
            self.accepted += 1
        elif callback.attempt <= len(self.retries.delays):
            self.retried += 1
            delay = self.retries.delays[callback.attempt - 1]
            callback.attempt += 1
            asyncio.get_running_loop().call_later(delay, self._queue.put_nowait, callback)
            return
        else:
            self.given_up += 1
            self.on_given_up(callback)
        self._unfinished -= 1
        if not self._unfinished:
            self._idle.set()


async def request_once(
    method: str, url: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b"", timeout: float = 10.0
) -> tuple[int, bytes]:
    """One request to this machine, without retries: `(status, body)`.

    Raises: `CallbackFailedError`.
    """
    if urlsplit(url).hostname not in LOOPBACK:
        raise CallbackFailedError(f"not on this machine: {url}")
    lines: dict[tuple[str, int], HttpConnection] = {}
    try:
        return await _send(Callback(method, url, headers, body), lines, timeout)
    finally:
        for line in lines.values():
            line.close()


async def _send(
    callback: Callback, lines: dict[tuple[str, int], HttpConnection], timeout: float
) -> tuple[int, bytes]:
    url = urlsplit(callback.url)
    where = (url.hostname or "", url.port or 80)
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    head = [
        f"{callback.method} {target} HTTP/1.1\r\n",
        f"host: {url.netloc}\r\ncontent-length: {len(callback.body)}\r\n",
    ]
    head += [f"{name}: {value}\r\n" for name, value in callback.headers]
    message = "".join(head).encode() + b"\r\n" + callback.body
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            line = lines.get(where)
            kept = line is not None and line.usable
            if line is None or not kept:
                _, line = await loop.create_connection(HttpConnection, *where)
                lines[where] = line
            try:
                return await line.ask(message)
            except CallbackFailedError:
                # A server may close a kept connection just as it is used again; nothing was answered on it.
                if not kept or line.heard:
                    raise
                _, line = await loop.create_connection(HttpConnection, *where)
                lines[where] = line
                return await line.ask(message)
    except TimeoutError:
        if (line := lines.pop(where, None)) is not None:
            line.close()
        raise CallbackFailedError("no answer in time") from None
    except OSError as problem:
        raise CallbackFailedError(str(problem)) from None


@dataclass(slots=True)
class _Reply:
    status: int = 0
    body: bytearray = field(default_factory=bytearray)


class HttpConnection(asyncio.Protocol):
    """One HTTP/1.1 connection with one request at a time."""

    def __init__(self) -> None:
        self.usable = False
        self.heard = False
        """Whether anything was received for the current request."""
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._reply = _Reply()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.usable = True

    async def ask(self, message: bytes) -> tuple[int, bytes]:
        """Send a whole request and return status and body.

        Raises: `CallbackFailedError`.
        """
        assert self._transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self._reply, self.heard = _Reply(), False
        self._transport.write(message)
        return await self._waiting

    def close(self) -> None:
        self.usable = False
        if self._transport:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self.heard = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("not HTTP")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._fail("the connection was lost")

    def on_body(self, body: bytes) -> None:
        if len(self._reply.body) < _MAX_ANSWER:
            self._reply.body += body

    def on_message_complete(self) -> None:
        self._reply.status = self._parser.get_status_code()
        if self._reply.status < 200:  # an interim answer
            return
        if not self._parser.should_keep_alive():
            self.close()
        if self._waiting and not self._waiting.done():
            self._waiting.set_result((self._reply.status, bytes(self._reply.body)))

    def _fail(self, why: str) -> None:
        if self._waiting and not self._waiting.done():
            with contextlib.suppress(asyncio.InvalidStateError):
                self._waiting.set_exception(CallbackFailedError(why))
