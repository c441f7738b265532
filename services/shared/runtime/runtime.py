"""The runtime of one service process: its settings, clock, connections, metrics, outbox, dead letters and
fuse.

A service builds its core and features on it; `Service` composes them. Nothing connects before the service
starts.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from services.shared.clock import Clock, SystemClock
from services.shared.config.settings import ServiceSettings
from services.shared.database import MongoMetrics, ServerClock, connect, database
from services.shared.jobs import Jobs
from services.shared.messaging import (
    Broker,
    DeadLetters,
    Fuse,
    KafkaBroker,
    LogSource,
    MessagingMetrics,
    Outbox,
)
from services.shared.observability.metrics import describe_process
from services.shared.runtime.successions import Successions


class Runtime:
    """Everything is built from the settings; `clock`, `broker` and `registry` replace the defaults."""

    def __init__(
        self,
        settings: ServiceSettings,
        *,
        clock: Clock | None = None,
        broker: Broker | None = None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        name = settings.service
        self.settings = settings
        self.clock = clock or SystemClock()
        self.registry = registry or CollectorRegistry()
        describe_process(self.registry, name)
        self.metrics = MessagingMetrics(self.registry)
        self.broker = broker or broker_of(settings, self.metrics)
        self.log: LogSource = (
            self.broker if isinstance(self.broker, KafkaBroker) else broker_of(settings, self.metrics)
        )
        mongo = MongoMetrics(self.registry)
        self.client = connect(settings.mongo_uri, app_name=f"sangathan-{name}", listeners=[mongo])
        self.database = database(self.client, settings.database)
        self.server_clock = ServerClock(self.client, self.clock)
        self.outbox = Outbox(
            self.client, self.database, self.server_clock, on_retry=mongo.transaction_retries.inc
        )
        self.dead_letters = DeadLetters(self.database, self.server_clock, name, self.metrics)
        self.fuse = Fuse(self.database, self.clock)
        self.jobs = Jobs(self.database, self.server_clock)
        self.successions = Successions(self.database, self.server_clock)

    def close(self) -> None:
        self.client.close()


def broker_of(settings: ServiceSettings, metrics: MessagingMetrics | None = None) -> KafkaBroker:
    """A client of the Kafka cluster that the settings name."""
    return KafkaBroker(
        settings.kafka_bootstrap,
        client_id=settings.instance,
        prefix=settings.kafka_prefix,
        group_instance_id=settings.kafka_group_instance_id,
        on_assigned=metrics.consumer.rebalances.inc if metrics else lambda: None,
        security=settings.kafka_security,
        metrics=metrics.broker if metrics else None,
        on_log_gap=settings.on_log_gap,
    )
