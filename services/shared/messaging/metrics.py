"""The metrics of messaging. Labels have few, fixed values: a service, a topic, a known event type, a slug."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)
DEATHS = (
    "handler_error",
    "invalid_data",
    "key_mismatch",
    "not_a_cloudevent",
    "too_large",
    "undecodable",
    "unknown_type",
)
"""The usual reasons of dead letters. They start at 0, because `increase` misses a series' first value."""


class MessagingMetrics:
    """The metrics of messaging, a group for each of its parts; create them once per process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.consumer = ConsumerMetrics(registry)
        self.dead_letters = DeadLetterMetrics(registry)
        self.relay = RelayMetrics(registry)
        self.commit_size = Histogram(
            "sangathan_group_commit_writes",
            "Requests that shared one transaction.",
            buckets=SIZES,
            registry=registry,
        )
        self.loop_restarts = Counter(
            "sangathan_loop_restarts",
            "Background loops restarted after a fault.",
            ["loop"],
            registry=registry,
        )


class ConsumerMetrics:
    """Metrics of one member of a consumer group."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter(
            "sangathan_consumer_events",
            "Events by type and outcome (applied, duplicate, ignored, dead).",
            ["type", "outcome"],
            registry=registry,
        )
        self.batch_size = Histogram(
            "sangathan_consumer_batch_records", "Records per fetched batch.", buckets=SIZES, registry=registry
        )
        self.batch_seconds = Histogram(
            "sangathan_consumer_batch_seconds",
            "Duration from a fetched batch to its committed offsets.",
            buckets=SECONDS,
            registry=registry,
        )
        self.delay = Histogram(
            "sangathan_consumer_delay_seconds",
            "Delay from an event's time to its applied effect; the oldest event of each batch.",
            buckets=(*SECONDS, 60, 300, 1800),
            registry=registry,
        )
        self.retries = Counter(
            "sangathan_consumer_retries",
            "Batches retried, by family of the fault.",
            ["family"],
            registry=registry,
        )
        self.fuse_open = Gauge(
            "sangathan_fuse_open", "1 while dead letters have stopped the consumer.", registry=registry
        )
        self._progress_gauges(registry)

    def _progress_gauges(self, registry: CollectorRegistry) -> None:
        """Gauges of assigned partitions and of progress."""
        self.lag = Gauge(
            "sangathan_consumer_lag_records",
            "Records not yet consumed, by topic (this member's partitions).",
            ["topic"],
            registry=registry,
        )
        self.lag_seconds = Gauge(
            "sangathan_consumer_lag_seconds",
            "Age of the oldest record not yet consumed, by topic (this member's partitions); 0 if caught up.",
            ["topic"],
            registry=registry,
        )
        self.assigned = Gauge(
            "sangathan_consumer_assigned_partitions", "Partitions held by this member.", registry=registry
        )
        self.partitions = Gauge(
            "sangathan_consumer_topic_partitions",
            "Partitions of the consumed topics, on all members.",
            registry=registry,
        )
        self.rebalances = Counter(
            "sangathan_consumer_rebalances",
            "Assignments of partitions to this member, the first included.",
            registry=registry,
        )
        self.progress = Gauge(
            "sangathan_consumer_last_progress_timestamp_seconds",
            "Time of the last commit of offsets.",
            registry=registry,
        )


class DeadLetterMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.buried = Counter(
            "sangathan_dead_letters", "Records dead-lettered, by reason.", ["reason"], registry=registry
        )
        for reason in DEATHS:
            self.buried.labels(reason)
        self.open = Gauge(
            "sangathan_dead_letters_open",
            "Letters of the service neither replayed nor discarded; the same in every process.",
            registry=registry,
        )
        self.settled = Counter(
            "sangathan_dead_letters_settled",
            "Letters settled by an operator (replayed, discarded).",
            ["how"],
            registry=registry,
        )


class RelayMetrics:
    """Metrics of the relay and of the outbox that it publishes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.outbox_rows = Gauge(
            "sangathan_outbox_rows", "Events staged and not yet published.", registry=registry
        )
        self.outbox_age = Gauge(
            "sangathan_outbox_oldest_age_seconds", "Age of the oldest unpublished event.", registry=registry
        )
        self.published = Counter(
            "sangathan_relay_published", "Events published, by topic.", ["topic"], registry=registry
        )
        self.batch_size = Histogram(
            "sangathan_relay_batch_records", "Events per relay batch.", buckets=SIZES, registry=registry
        )
        self.errors = Counter(
            "sangathan_relay_errors", "Relay batches that failed and are retried.", registry=registry
        )
        self.leader = Gauge(
            "sangathan_relay_leader", "1 while this process holds the relay's lease.", registry=registry
        )
