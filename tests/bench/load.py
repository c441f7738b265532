"""A lean HTTP/1.1 load generator: prepared requests over keep-alive connections, one in flight on each.

A general client costs more per request than the server under test, so on two cores it would measure itself.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple


class Answer(NamedTuple):
    """`due` and `at` are Unix times: when the request should have been sent, and when its answer was
    complete."""

    due: float
    at: float
    body: bytes


@dataclass
class Load:
    """The statuses received, and the answers when they are kept."""

    statuses: Counter[int] = field(default_factory=Counter)
    answers: list[Answer] | None = None
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        return sum(self.statuses.values()) / self.seconds


@dataclass
class _Queue:
    """Requests still to be sent; the n-th is due `n * interval` seconds after `began`."""

    requests: deque[bytes]
    interval: float
    began: float
    taken: int = 0

    def take(self) -> tuple[float, bytes]:
        due = self.began + self.taken * self.interval if self.interval else time.time()
        self.taken += 1
        return due, self.requests.popleft()


class _Connection(asyncio.Protocol):
    def __init__(self, queue: _Queue, load: Load, done: asyncio.Future[None]) -> None:
        self._queue, self._load, self._done = queue, load, done
        self._buffer = b""
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        lower = self._buffer[:head].lower()
        at = lower.index(b"content-length: ") + 16
        length = int(lower[at:].split(b"\r\n", 1)[0])
        if len(self._buffer) < head + 4 + length:
            return
        self._load.statuses[int(self._buffer[9:12])] += 1
        end = head + 4 + length
        if self._load.answers is not None:
            self._load.answers.append(Answer(self._due, time.time(), self._buffer[head + 4 : end]))
        self._buffer = self._buffer[end:]
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(error or ConnectionError("closed by the server"))

    def _next(self) -> None:
        if not self._queue.requests:
            if not self._done.done():
                self._done.set_result(None)
            self._transport.close()
            return
        self._due, request = self._queue.take()
        wait = self._due - time.time()
        if wait > 0:
            asyncio.get_running_loop().call_later(wait, self._transport.write, request)
        else:
            self._transport.write(request)


async def post(
    host: str,
    port: int,
    path: str,
    token: str,
    bodies: Iterable[bytes],
    *,
    connections: int,
    rate: float = 0,
    keep: bool = False,
    media_type: str = "application/json",
) -> Load:
    """POST every body once over `connections` connections: as fast as answers come, or at `rate` per second.

    At a rate, waiting for a free connection counts as latency: the request was due before. `keep` keeps the
    answers.

    Raises: `ConnectionError` when the server closes a connection before its work is done.
    """
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\nauthorization: Bearer {token}\r\n"
        f"content-type: {media_type}\r\ncontent-length: "
    ).encode()
    requests = deque(head + str(len(body)).encode() + b"\r\n\r\n" + body for body in bodies)
    queue = _Queue(requests, 1 / rate if rate else 0, time.time() + 0.1)
    load = Load(answers=[] if keep else None)
    loop = asyncio.get_running_loop()
    done = [loop.create_future() for _ in range(connections)]
    began = time.perf_counter()
    for future in done:
        await loop.create_connection(partial(_Connection, queue, load, future), host, port)
    await asyncio.gather(*done)
    load.seconds = time.perf_counter() - began
    return load
