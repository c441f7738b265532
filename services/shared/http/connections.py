"""The connections of a process: how many one address may have, and what is said to one that is cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import Enum
from ipaddress import IPv6Address
from typing import Any, Final

import orjson

from services.shared.http.metrics import HttpMetrics
from services.shared.http.problem import ALWAYS_SENT
from services.shared.ids import new_id

SWEEP_SECONDS: Final = 1
ALWAYS_ADMITTED: Final = 16
"""Connections that each address may have, even when all others are taken: a probe is one of them."""


class Refused(Enum):
    """Why a connection was cut: the label of the metric, and what the client is told."""

    MALFORMED = ("malformed", 400, "bad-request", "Bad Request")
    HEAD_TOO_LARGE = ("head_too_large", 431, "headers-too-large", "Request Header Fields Too Large")
    HEAD_TOO_SLOW = ("head_too_slow", 408, "request-timeout", "Request Timeout")
    BODY_TOO_SLOW = ("body_too_slow", 408, "request-timeout", "Request Timeout")
    CONNECTIONS = ("connections", 429, "too-many-connections", "Too Many Requests")
    UNREAD = ("unread", 0, "", "")
    """The client takes nothing of its answer."""

    def __init__(self, reason: str, status: int, slug: str, title: str) -> None:
        self.reason = reason
        self._status = status
        self._problem = {"type": f"urn:sangathan:problem:{slug}", "title": title, "status": status}

    def answer(self) -> bytes:
        """The whole answer, with an id of its own. Nothing of the request is repeated."""
        request_id = new_id()
        content = orjson.dumps(
            {**self._problem, "instance": f"urn:sangathan:request:{request_id}", "request_id": request_id}
        )
        headers = {
            b"content-type": b"application/problem+json",
            b"content-length": b"%d" % len(content),
            b"connection": b"close",
            **dict(ALWAYS_SENT),
            b"x-request-id": request_id.encode(),
        }
        if self._status == 429:
            headers[b"retry-after"] = b"1"
        lines = [b"HTTP/1.1 %d %s" % (self._status, str(self._problem["title"]).encode())]
        lines += [b"%s: %s" % header for header in headers.items()]
        return b"\r\n".join([*lines, b"", content])


class ConnectionGuard:
    """Counts the connections of a process and admits new ones; shared by the application and its server.

    One address may have half of `max_connections`: behind a load balancer all callers have its address, and
    half is still more than can be answered at once.
    """

    def __init__(self, metrics: HttpMetrics, max_connections: int) -> None:
        self._metrics = metrics
        self._most = max_connections
        self._by_address: Counter[str] = Counter()
        self._open = 0

    def opened(self, address: str) -> bool:
        """Count a connection; whether it is admitted."""
        self._open += 1
        self._by_address[address] += 1
        own = self._by_address[address]
        return own <= ALWAYS_ADMITTED or (self._open <= self._most and own <= self._most // 2)

    def closed(self, address: str) -> None:
        self._open -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def refused(self, why: Refused) -> None:
        self._metrics.refused(why.reason)

    def sweep(self, connections: Iterable[Any]) -> None:
        """Take `SWEEP_SECONDS` from the patience with each connection that waits for its client."""
        for connection in list(connections):
            connection.sweep()


def network_of(address: str) -> str:
    """The address, or for IPv6 the network of 64 bits in which a caller has all addresses."""
    if ":" not in address:
        return address
    return str(int(IPv6Address(address.partition("%")[0])) >> 64)
