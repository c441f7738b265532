"""Kafka through aiokafka, which only this package imports.

aiokafka's defaults lose data (acks=1, latest, auto-commit), so every setting that matters is set here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
)

from services.shared.config.kafka_security import UNSECURED, Security
from services.shared.errors import TransientError
from services.shared.messaging.broker import Message, Partition, RebalancedError, Record
from services.shared.messaging.kafka import patches
from services.shared.messaging.kafka.admin import REQUEST_MS, partitions_of
from services.shared.messaging.kafka.partitioning import partition_of

log = structlog.get_logger(__name__)

COMMIT_SECONDS = 10.0
SESSION_MS = 10_000
MAX_RECORD_BYTES = 2 * 1024 * 1024
READ_BYTES = 64 * 1024
"""Fetch size for reading single records, since the records after them are thrown away. A larger record
arrives all the same (KIP-74)."""
READ_SECONDS = 5.0
FETCH_WAIT_MS = 1000
"""How long the broker holds a fetch while it has no records."""


class KafkaBroker:
    """Connections to one cluster. `client_id` names this process in the broker's logs and quotas.

    `prefix` is put before every topic and consumer group on the wire, so that several deployments (or tests)
    can share a cluster; no code outside this module sees it. `on_assigned` is called after every rebalance of
    a consumer.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        client_id: str,
        prefix: str = "",
        group_instance_id: str = "",
        on_assigned: Callable[[], None] = lambda: None,
        security: Security = UNSECURED,
    ) -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._prefix = prefix
        self._group_instance_id = group_instance_id or None
        self._on_assigned = on_assigned
        self._security = security

    async def producer(self) -> KafkaProducer:
        producer = KafkaProducer(self._bootstrap, self._client_id, self._prefix, self._security)
        await producer.start()
        return producer

    async def consumer(self, group: str, topics: Sequence[str]) -> KafkaConsumer:
        raw = self._raw_consumer(
            group_id=self._prefix + group,
            group_instance_id=self._group_instance_id,
            auto_offset_reset="earliest",
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=SESSION_MS // 3,
            max_poll_interval_ms=300_000,
            # The broker answers at once when it has data; this is how often an idle consumer asks again.
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_partition_fetch_bytes=MAX_RECORD_BYTES,
            metadata_max_age_ms=30_000,
        )
        raw.subscribe([self._prefix + topic for topic in topics], listener=_Assignments(self._on_assigned))
        await _started(raw)
        patches.keep_prefetching(raw)
        return KafkaConsumer(raw, self._prefix)

    async def read(self, places: Sequence[tuple[Partition, int]]) -> list[Record]:
        raw = self._raw_consumer(fetch_max_wait_ms=100, max_partition_fetch_bytes=READ_BYTES)
        await _started(raw)
        reader = KafkaConsumer(raw, self._prefix)
        try:
            return await reader.read(places)
        finally:
            await reader.stop()

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
            await KafkaConsumer(raw, self._prefix).commit(offsets)

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
        raw = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            client_id=self._client_id,
            enable_auto_commit=False,
            request_timeout_ms=REQUEST_MS,
            **self._security.options(),
            **options,
        )
        patches.wait_for_records(raw, FETCH_WAIT_MS)
        return raw


class _Assignments(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(self, on_assigned: Callable[[], None]) -> None:
        self._on_assigned = on_assigned

    def on_partitions_revoked(self, revoked: object) -> None: ...

    def on_partitions_assigned(self, assigned: object) -> None:
        self._on_assigned()


class KafkaProducer:
    """An idempotent producer that replaces its aiokafka client when it wedges (OutOfOrderSequence, fencing,
    unknown producer)."""

    def __init__(self, bootstrap: str, client_id: str, prefix: str, security: Security) -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._prefix = prefix
        self._security = security
        self._raw: Any = None

    async def start(self) -> None:
        raw = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            client_id=self._client_id,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=256 * 1024,
            max_request_size=MAX_RECORD_BYTES,
            request_timeout_ms=REQUEST_MS,
            **self._security.options(),
        )
        await _started(raw)
        self._raw = raw

    async def publish(self, messages: Sequence[Message]) -> None:
        if self._raw is None:
            await self.start()
        try:
            await asyncio.gather(*[ack async for ack in self._sent(messages)])
        except (KafkaError, OSError) as error:
            await self._discard()
            raise TransientError(f"publish failed: {type(error).__name__}") from error

    async def _sent(self, messages: Sequence[Message]) -> AsyncIterator[asyncio.Future[Any]]:
        """Send the messages in batches per partition; yields the acknowledgement (a future) of each batch.

        aiokafka's `send` takes 30 us per record, mostly for coroutines and futures of each record. Batches of
        one partition are sent one after another, which keeps the order of `messages`.
        """
        partitions = {t: await self._partitions(t) for t in {m.topic for m in messages}}
        filling: dict[Partition, Any] = {}
        for m in messages:
            at = Partition(m.topic, partition_of(m.key, partitions[m.topic]))
            batch = filling.get(at)
            if batch is None or not _append(batch, m):
                if batch is not None:
                    yield await self._send_batch(at, batch)
                filling[at] = batch = self._raw.create_batch()
                _append(batch, m)
        for at, batch in filling.items():
            yield await self._send_batch(at, batch)

    async def _partitions(self, topic: str) -> int:
        return len(await self._raw.partitions_for(self._prefix + topic))

    async def _send_batch(self, at: Partition, batch: Any) -> asyncio.Future[Any]:
        ack: asyncio.Future[Any] = await self._raw.send_batch(
            batch, self._prefix + at.topic, partition=at.number
        )
        return ack

    async def stop(self) -> None:
        if self._raw is not None:
            await self._raw.stop()
            self._raw = None

    async def _discard(self) -> None:
        """Stop the client after any failure: its sequence numbers may differ from the broker's."""
        raw, self._raw = self._raw, None
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            await asyncio.wait_for(raw.stop(), timeout=5)


def _append(batch: Any, message: Message) -> bool:
    """Add a message; False when the batch is full. An empty batch accepts any message."""
    headers = list(message.headers)
    return batch.append(timestamp=None, key=message.key, value=message.value, headers=headers) is not None


class KafkaConsumer:
    """One member of a consumer group; see `Consumer`."""

    def __init__(self, raw: Any, prefix: str) -> None:
        self._raw = raw
        self._prefix = prefix

    async def fetch(self, max_records: int, timeout: float) -> list[Record]:
        try:
            batches = await self._raw.getmany(timeout_ms=int(timeout * 1000), max_records=max_records)
        except (KafkaError, OSError) as error:
            raise TransientError(f"fetch failed: {type(error).__name__}") from error
        return [self._record(tp, r) for tp, records in batches.items() for r in records]

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        # aiokafka retries a commit forever, hence the timeout. CommitFailedError and IllegalStateError both
        # mean that the group was rebalanced.
        try:
            await asyncio.wait_for(
                self._raw.commit({self._topic_partition(p): offset for p, offset in offsets.items()}),
                COMMIT_SECONDS,
            )
        except (CommitFailedError, IllegalStateError) as error:
            raise RebalancedError from error
        except (KafkaError, OSError, TimeoutError) as error:
            raise TransientError(f"commit failed: {type(error).__name__}") from error

    def rewind(self, offsets: Mapping[Partition, int]) -> None:
        for partition, offset in offsets.items():
            with contextlib.suppress(IllegalStateError):
                self._raw.seek(self._topic_partition(partition), offset)

    async def read(self, places: Sequence[tuple[Partition, int]]) -> list[Record]:
        """See `Broker.read`. Only for a consumer outside any group."""
        wanted = [(self._topic_partition(partition), offset) for partition, offset in places]
        try:
            self._raw.assign({tp for tp, _ in wanted})
            ends = await self._raw.end_offsets({tp for tp, _ in wanted})
            found = [await self._at(tp, offset) for tp, offset in wanted if offset < ends[tp]]
        except (KafkaError, OSError) as error:
            raise TransientError(f"read failed: {type(error).__name__}") from error
        return [record for record in found if record is not None]

    async def _at(self, tp: TopicPartition, offset: int) -> Record | None:
        """The record at this offset; waits at most `READ_SECONDS` when the log no longer has it."""
        self._raw.seek(tp, offset)
        fetched = await self._raw.getmany(tp, timeout_ms=int(READ_SECONDS * 1000), max_records=1)
        return next((self._record(tp, r) for r in fetched.get(tp, ()) if r.offset == offset), None)

    def assignment(self) -> Collection[Partition]:
        return {self._partition(tp) for tp in self._raw.assignment()}

    def partitions(self) -> int:
        return sum(len(self._raw.partitions_for_topic(topic) or ()) for topic in self._raw.subscription())

    async def lag(self) -> dict[Partition, int]:
        lags = {}
        for tp in self._raw.assignment():
            end = self._raw.highwater(tp)
            if end is not None:
                with contextlib.suppress(IllegalStateError):
                    lags[self._partition(tp)] = max(0, end - await self._raw.position(tp))
        return lags

    async def positions(self) -> dict[Partition, int]:
        positions = {}
        for tp in self._raw.assignment():
            with contextlib.suppress(IllegalStateError):
                positions[self._partition(tp)] = await self._raw.position(tp)
        return positions

    async def stop(self) -> None:
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            await asyncio.wait_for(self._raw.stop(), timeout=5)

    def _record(self, tp: TopicPartition, raw: Any) -> Record:
        return Record(self._partition(tp), raw.offset, raw.key, raw.value, tuple(raw.headers), raw.timestamp)

    def _partition(self, tp: TopicPartition) -> Partition:
        return Partition(tp.topic.removeprefix(self._prefix), tp.partition)

    def _topic_partition(self, partition: Partition) -> TopicPartition:
        return TopicPartition(self._prefix + partition.topic, partition.number)


async def _started(client: Any) -> None:
    """Start an aiokafka client; if that fails, stop it, so that its background tasks end too."""
    start: Awaitable[None] = client.start()
    try:
        await start
    except (KafkaError, OSError) as error:
        with contextlib.suppress(KafkaError, OSError):
            await client.stop()
        raise TransientError(f"broker unreachable: {type(error).__name__}") from error
