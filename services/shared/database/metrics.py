"""Metrics of MongoDB's driver: its connection pool, and repeated transactions.

Single commands are not measured: a listener would cost each command more than it is worth, and the durations
of batches and requests already include them. The driver's threads report the pool's events.
"""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from pymongo.common import MAX_POOL_SIZE
from pymongo.monitoring import (
    ConnectionCheckedInEvent,
    ConnectionCheckedOutEvent,
    ConnectionCheckOutFailedEvent,
    ConnectionCheckOutStartedEvent,
    ConnectionClosedEvent,
    ConnectionCreatedEvent,
    ConnectionPoolListener,
    ConnectionReadyEvent,
    PoolClearedEvent,
    PoolClosedEvent,
    PoolCreatedEvent,
    PoolReadyEvent,
)

SECONDS = (0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5)


class MongoMetrics(ConnectionPoolListener):
    """The driver's metrics; create them once per process and pass them to the client as a listener."""

    def __init__(self, registry: CollectorRegistry) -> None:
        connections = Gauge(
            "sangathan_mongo_pool_connections",
            "Connections to MongoDB (in_use, idle).",
            ["state"],
            registry=registry,
        )
        self._in_use, self._idle = connections.labels("in_use"), connections.labels("idle")
        self._most = Gauge(
            "sangathan_mongo_pool_max_connections",
            "Most connections to one MongoDB server (maxPoolSize); +Inf without a limit.",
            registry=registry,
        )
        self._wait = Histogram(
            "sangathan_mongo_pool_wait_seconds",
            "Wait for a connection from the pool.",
            buckets=SECONDS,
            registry=registry,
        )
        self._failures = Counter(
            "sangathan_mongo_pool_checkout_failures",
            "Failed requests for a connection, by reason (timeout, poolClosed, connectionError).",
            ["reason"],
            registry=registry,
        )
        self.transaction_retries = Counter(
            "sangathan_mongo_transaction_retries",
            "Transactions run again after a write conflict or a change of the primary.",
            registry=registry,
        )

    def connection_created(self, event: ConnectionCreatedEvent) -> None:
        self._idle.inc()

    def connection_closed(self, event: ConnectionClosedEvent) -> None:
        self._idle.dec()

    def connection_checked_out(self, event: ConnectionCheckedOutEvent) -> None:
        self._idle.dec()
        self._in_use.inc()
        self._wait.observe(event.duration or 0.0)

    def connection_checked_in(self, event: ConnectionCheckedInEvent) -> None:
        self._in_use.dec()
        self._idle.inc()

    def connection_check_out_failed(self, event: ConnectionCheckOutFailedEvent) -> None:
        self._failures.labels(event.reason).inc()

    def connection_check_out_started(self, event: ConnectionCheckOutStartedEvent) -> None: ...

    def connection_ready(self, event: ConnectionReadyEvent) -> None: ...

    def pool_created(self, event: PoolCreatedEvent) -> None:
        # The event contains only options that differ from the driver's defaults.
        self._most.set(event.options.get("maxPoolSize", MAX_POOL_SIZE) or math.inf)

    def pool_ready(self, event: PoolReadyEvent) -> None: ...

    def pool_cleared(self, event: PoolClearedEvent) -> None: ...

    def pool_closed(self, event: PoolClosedEvent) -> None: ...
