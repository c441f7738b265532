"""The metrics of MongoDB's driver: its pool of connections, and transactions that had to run again.

Commands are not listened to: a listener costs each of them more than it tells, and the durations of batches and requests
hold theirs already. The pool's events come from the driver's threads.
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
    """Registered once per process in the registry of its service, and given to the client as its listener."""

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
            "Connections that there may be to one server of MongoDB (maxPoolSize); +Inf when any number may.",
            registry=registry,
        )
        self._wait = Histogram(
            "sangathan_mongo_pool_wait_seconds",
            "From asking for a connection to having it.",
            buckets=SECONDS,
            registry=registry,
        )
        self._failures = Counter(
            "sangathan_mongo_pool_checkout_failures",
            "Connections asked for in vain, by reason (timeout, poolClosed, connectionError).",
            ["reason"],
            registry=registry,
        )
        self.transaction_retries = Counter(
            "sangathan_mongo_transaction_retries",
            "Transactions run again, after a write conflict or a change of the primary.",
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
        # The event names only options that are not the driver's own.
        self._most.set(event.options.get("maxPoolSize", MAX_POOL_SIZE) or math.inf)

    def pool_ready(self, event: PoolReadyEvent) -> None: ...

    def pool_cleared(self, event: PoolClearedEvent) -> None: ...

    def pool_closed(self, event: PoolClosedEvent) -> None: ...
