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


@dataclass
class Load:
    """What came back: statuses, and the latency of each answer in seconds."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        return sum(self.statuses.values()) / self.seconds


class _Connection(asyncio.Protocol):
    def __init__(self, requests: deque[bytes], load: Load, done: asyncio.Future[None]) -> None:
        self._requests, self._load, self._done = requests, load, done
        self._buffer = b""
        self._sent = 0.0

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
        self._load.latencies.append(time.perf_counter() - self._sent)
        self._buffer = self._buffer[head + 4 + length :]
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(error or ConnectionError("closed by the server"))

    def _next(self) -> None:
        if not self._requests:
            if not self._done.done():
                self._done.set_result(None)
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(self._requests.popleft())


async def post(
    host: str, port: int, path: str, token: str, bodies: Iterable[bytes], *, connections: int
) -> Load:
    """POST every body once over `connections` connections.

    Raises: `ConnectionError` when the server closes one before its work is done.
    """
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\nauthorization: Bearer {token}\r\n"
        "content-type: application/json\r\ncontent-length: "
    ).encode()
    requests = deque(head + str(len(body)).encode() + b"\r\n\r\n" + body for body in bodies)
    load = Load()
    loop = asyncio.get_running_loop()
    done = [loop.create_future() for _ in range(connections)]
    began = time.perf_counter()
    for future in done:
        await loop.create_connection(partial(_Connection, requests, load, future), host, port)
    await asyncio.gather(*done)
    load.seconds = time.perf_counter() - began
    return load
