"""The metrics of messaging. Labels have few, fixed values: a service, a topic, a known event type, a slug."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.shared.messaging.broker import OF_A_RECORD, OF_A_TOPIC, Refusal

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)
OURS, FOREIGN = "ours", "foreign"
DEATHS = (
    ("handler_error", OURS),
    ("too_slow", OURS),
    *(
        (reason, FOREIGN)
        for reason in (
            "headers_too_large",
            "invalid_data",
            "key_mismatch",
            "not_a_cloudevent",
            "sequence_leap",
            "time_ahead",
            "too_large",
            "undecodable",
            "unknown_type",
            "wrong_source",
            "wrong_topic",
        )
    ),
)
"""The usual reasons of dead letters. They start at 0, because `increase` misses a series' first value."""
CALLS = ("fetch", "metadata", "other", "produce")
"""The calls to the broker that are told apart."""
FETCH_FAULTS = ("broker", "codec", "corrupt", "denied", "log_gap", "too_large")
"""Why records cannot be fetched: the broker fails or is away; records compressed in a way that this process
cannot read; a batch that is damaged; a permission; records deleted before they were read; a record above the
limit."""


class MessagingMetrics:
    """The metrics of messaging, a group for each of its parts; create them once per process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.broker = BrokerMetrics(registry)
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


class BrokerMetrics:
    """Metrics of the connections to the broker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answered = Gauge(
            "sangathan_broker_last_answer_timestamp_seconds",
            "Time of the broker's last answer to the consumer (fetch) and to the relay (produce).",
            ["call"],
            registry=registry,
        )
        self.errors = Counter(
            "sangathan_broker_errors",
            "Calls to the broker without an answer or with an error, by call; the client repeats them.",
            ["call"],
            registry=registry,
        )
        self.fetch_errors = Counter(
            "sangathan_consumer_fetch_errors",
            "Fetches that failed, by reason.",
            ["reason"],
            registry=registry,
        )
        self.stopped = Gauge(
            "sangathan_consumer_stopped_partitions",
            "Partitions of this member that cannot be read on, by topic and reason; they are tried again.",
            ["topic", "reason"],
            registry=registry,
        )
        self.gap = Counter(
            "sangathan_log_gap_records",
            "Records that the log lost before this service read them, by topic.",
            ["topic"],
            registry=registry,
        )
        for call in CALLS:
            self.errors.labels(call)
        for reason in FETCH_FAULTS:
            self.fetch_errors.labels(reason)
        self._expected: set[str] = set()

    def expect(self, call: str) -> None:
        """From now on the broker should answer this call; later calls of this method change nothing."""
        if call not in self._expected:
            self.answered(call)

    def reads(self, topics: Iterable[str]) -> None:
        """Begin the series of these topics at 0, because `increase` misses a series' first value."""
        for topic in topics:
            self.gap.labels(topic)
            for reason in FETCH_FAULTS[1:]:  # a broker that is away stops no partition
                self.stopped.labels(topic, reason)

    def failed(self, call: str) -> None:
        self.errors.labels(call).inc()

    def answered(self, call: str) -> None:
        self._expected.add(call)
        self._answered.labels(call).set_to_current_time()


class ConsumerMetrics:
    """Metrics of one member of a consumer group."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter(
            "sangathan_consumer_events",
            "Events by type and outcome (applied, duplicate, ignored, set_aside, dead).",
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
            "Records not yet consumed, by topic (this member's partitions), as the broker counts them.",
            ["topic"],
            registry=registry,
        )
        self.lag_seconds = Gauge(
            "sangathan_consumer_lag_seconds",
            "Age of the oldest record not yet consumed, by topic (this member's partitions); 0 if caught up. "
            "While the broker does not answer, at least the time since its last answer.",
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
            "sangathan_dead_letters",
            "Records dead-lettered, by reason and kind (ours: a handler failed; foreign: it did not decode).",
            ["reason", "kind"],
            registry=registry,
        )
        for reason, kind in DEATHS:
            self.buried.labels(reason, kind)
        self.open = Gauge(
            "sangathan_dead_letters_open",
            "Letters of the service neither replayed nor discarded; the same in every process.",
            registry=registry,
        )
        self.set_aside = Gauge(
            "sangathan_set_aside_open",
            "Records of types that only a later release knows; the same in every process.",
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
            "sangathan_outbox_oldest_age_seconds",
            "Age of the oldest unpublished event that is not set aside.",
            registry=registry,
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
        self.set_aside = Gauge(
            "sangathan_relay_set_aside_rows",
            "Events that cannot be published and wait in the outbox, by topic and reason; the same in every "
            "process. At 10000 it stops counting.",
            ["topic", "reason"],
            registry=registry,
        )
        self.leader = Gauge(
            "sangathan_relay_leader", "1 while this process holds the relay's lease.", registry=registry
        )

    def publishes(self, topics: Iterable[str]) -> None:
        """Begin the series of these topics at 0: a query of a series that does not exist answers nothing."""
        for topic in topics:
            for reason in (*OF_A_RECORD, *OF_A_TOPIC, Refusal.BEHIND):
                self.set_aside.labels(topic, reason.value)
