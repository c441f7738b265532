"""Kafka through aiokafka, which only this package imports.

aiokafka's defaults lose data (acks=1, latest, auto-commit), so every setting that matters is set here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry

from services.shared.config.kafka_security import UNSECURED, Security
from services.shared.errors import TransientError
from services.shared.messaging.broker import Partition, Reading
from services.shared.messaging.kafka import decompression, patches
from services.shared.messaging.kafka.admin import REQUEST_MS, partitions_of
from services.shared.messaging.kafka.consumer import Gaps, KafkaConsumer, OnGap
from services.shared.messaging.kafka.log_reader import KafkaLogReader
from services.shared.messaging.kafka.producer import KafkaProducer
from services.shared.messaging.kafka.single_records import SingleRecords
from services.shared.messaging.kafka.translation import stop
from services.shared.messaging.metrics import BrokerMetrics

decompression.bound()

SESSION_MS = 10_000
MAX_RECORD_BYTES = 2 * 1024 * 1024
"""Records to fetch at once from a partition, in bytes: the largest record that any of our topics takes
(infra/kafka/topics.yaml)."""
READ_BYTES = 64 * 1024
"""Fetch size for reading single records, since the records after them are thrown away. A larger record
arrives all the same (KIP-74)."""
FETCH_WAIT_MS = 1000
"""How long the broker holds a fetch while it has no records."""
RETRY_MS = 250
"""Pause of aiokafka before it repeats a call."""


class KafkaBroker:
    """Connections to one cluster. `client_id` names this process in the broker's logs and quotas.

    `prefix` is put before every topic and consumer group on the wire, so that several deployments (or tests)
    can share a cluster; no code outside this package sees it. `on_assigned` is called after every rebalance
    of a consumer. `on_log_gap` says what to do where the log no longer has the records to read next: stop
    that partition, or go on with the oldest record that is left."""

    def __init__(
        self,
        bootstrap: str,
        *,
        client_id: str,
        prefix: str = "",
        group_instance_id: str = "",
        on_assigned: Callable[[], None] = lambda: None,
        security: Security = UNSECURED,
        metrics: BrokerMetrics | None = None,
        on_log_gap: OnGap = "stop",
    ) -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._prefix = prefix
        self._group_instance_id = group_instance_id or None
        self._on_assigned = on_assigned
        self._security = security
        self._metrics = metrics or BrokerMetrics(CollectorRegistry())
        self._on_log_gap: OnGap = on_log_gap
        self._gaps: Gaps = set()

    async def producer(self) -> KafkaProducer:
        producer = KafkaProducer(self._raw_producer, self._prefix, partial(self._metrics.answered, "produce"))
        await producer.start()
        return producer

    async def consumer(self, group: str, topics: Sequence[str]) -> KafkaConsumer:
        self._metrics.expect("fetch")
        self._metrics.reads(topics)
        raw = self._raw_consumer(
            group_id=self._prefix + group,
            group_instance_id=self._group_instance_id,
            # Where a position is missing or out of range, `KafkaConsumer` decides: "earliest" would skip what
            # the log has lost in silence.
            auto_offset_reset="none",
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=SESSION_MS // 3,
            max_poll_interval_ms=300_000,
            # The broker answers at once when it has data; this is how often an idle consumer asks again.
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_partition_fetch_bytes=MAX_RECORD_BYTES,
            metadata_max_age_ms=30_000,
        )
        consumer = KafkaConsumer(raw, self._prefix, self._metrics, self._on_log_gap, self._gaps)

        def assigned() -> None:
            consumer.forget()
            self._on_assigned()

        raw.subscribe([self._prefix + topic for topic in topics], listener=_Assignments(assigned))
        patches.watch_calls(raw._client, self._metrics, "fetch")
        await _started(raw)
        patches.stay_the_same_member(raw)
        patches.keep_prefetching(raw)
        return consumer

    async def read(self, places: Sequence[tuple[Partition, int]]) -> Reading:
        raw = self._raw_consumer(fetch_max_wait_ms=100, max_partition_fetch_bytes=READ_BYTES)
        await _started(raw)
        try:
            return await SingleRecords(raw, self._prefix).read(places)
        finally:
            await stop(raw)

    async def reader(self, topics: Sequence[str]) -> KafkaLogReader:
        """See `LogSource.reader`."""
        there = await partitions_of(self._bootstrap, [self._prefix + t for t in topics], self._security)
        tps = [TopicPartition(name, number) for name, number in there]
        raw = self._raw_consumer(
            auto_offset_reset="none",
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_partition_fetch_bytes=MAX_RECORD_BYTES,
        )
        await _started(raw)
        raw.assign(tps)
        patches.keep_prefetching(raw)
        consumer = KafkaConsumer(raw, self._prefix, self._metrics, self._on_log_gap, self._gaps)
        reader = KafkaLogReader(raw, consumer, self._prefix)
        try:
            reader.seek({partition: there.start for partition, there in (await reader.bounds()).items()})
        except BaseException:
            await reader.stop()
            raise
        return reader

    async def marks(
        self, group: str, topics: Sequence[str]
    ) -> tuple[dict[Partition, int], dict[Partition, int]]:
        """The group's committed offset in each partition that has one, and the end offset of each partition.
        Does not join the group.

        Raises: `TransientError` when the broker does not answer.
        """
        there = await partitions_of(self._bootstrap, [self._prefix + t for t in topics], self._security)
        tps = [TopicPartition(name, number) for name, number in there]
        async with self._bystander(group, tps) as raw:
            ends = await raw.end_offsets(tps)
            committed = {tp: await raw.committed(tp) for tp in tps}
        ours = {tp: Partition(tp.topic.removeprefix(self._prefix), tp.partition) for tp in tps}
        known = {ours[tp]: offset for tp, offset in committed.items() if offset is not None}
        return known, {ours[tp]: offset for tp, offset in ends.items()}

    async def place(self, group: str, offsets: Mapping[Partition, int]) -> None:
        """Commit these offsets for the group, which must have no members.

        Raises: `RebalancedError` when it has members; `TransientError` when the broker does not answer.
        """
        if not offsets:
            return
        tps = [TopicPartition(self._prefix + p.topic, p.number) for p in offsets]
        async with self._bystander(group, tps) as raw:
            outside = KafkaConsumer(raw, self._prefix, self._metrics, self._on_log_gap, self._gaps)
            await outside.commit(offsets)

    @contextlib.asynccontextmanager
    async def _bystander(self, group: str, tps: Sequence[TopicPartition]) -> AsyncIterator[Any]:
        """A consumer that reads and commits offsets of the group without joining it."""
        raw = self._raw_consumer(group_id=self._prefix + group)
        await _started(raw)
        try:
            raw.assign(tps)
            async with asyncio.timeout(2 * REQUEST_MS / 1000):
                yield raw
        except (KafkaError, OSError, TimeoutError) as error:
            raise TransientError(f"broker did not answer: {type(error).__name__}") from error
        finally:
            await raw.stop()

    def _raw_consumer(self, **options: Any) -> Any:
        raw = AIOKafkaConsumer(enable_auto_commit=False, **self._options(), **options)
        patches.wait_for_records(raw, FETCH_WAIT_MS)
        patches.pace_metadata(raw._client)
        return raw

    async def _raw_producer(self) -> Any:
        raw = AIOKafkaProducer(
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=256 * 1024,
            **self._options(),
        )
        patches.pace_metadata(raw.client)
        patches.watch_calls(raw.client, self._metrics, "produce")
        await _started(raw)
        return raw

    def _options(self) -> dict[str, Any]:
        return {
            "bootstrap_servers": self._bootstrap,
            "client_id": self._client_id,
            "request_timeout_ms": REQUEST_MS,
            "retry_backoff_ms": RETRY_MS,
            **self._security.options(),
        }


class _Assignments(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(self, on_assigned: Callable[[], None]) -> None:
        self._on_assigned = on_assigned

    def on_partitions_revoked(self, revoked: object) -> None: ...

    def on_partitions_assigned(self, assigned: object) -> None:
        self._on_assigned()


async def _started(client: Any) -> None:
    """Start an aiokafka client; if that fails, stop it, so that its background tasks end too."""
    start: Awaitable[None] = client.start()
    try:
        await start
    except (KafkaError, OSError) as error:
        with contextlib.suppress(KafkaError, OSError):
            await client.stop()
        raise TransientError(f"broker unreachable: {type(error).__name__}") from error
