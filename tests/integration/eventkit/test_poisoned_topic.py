"""A poisoned topic: what is healthy flows on at its rate, and each bad record is dead-lettered once, with its own reason."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from services.shared.contracts.base import Envelope
from services.shared.contracts.members import MemberJoined
from services.shared.eventkit.broker import Message, TopicSpec
from services.shared.eventkit.codec import encode
from services.shared.eventkit.dead_letters import Filter
from services.shared.eventkit.kafka import create_topics
from services.shared.eventkit.outbox import UnitOfWork
from services.shared.ids import new_id
from tests.integration.eventkit.conftest import ORIGIN, Bench, Real, joined

HEALTHY = 20_000
POISON_EVERY = 50
ROUNDS = 6
LEAST_SHARE = 0.9
LARGEST = 10 * 1024 * 1024
AT = datetime(2026, 11, 24, tzinfo=UTC)


def event(subject: str | None = None, sequence: int = 1) -> Message:
    origin = (ORIGIN.correlation_id, ORIGIN.traceparent)
    return encode(Envelope(new_id(), sequence, AT, *origin, joined(subject)))


def changed(
    *, key: bytes | None = None, value: bytes | None = None, **headers: bytes | None
) -> Callable[[], Message]:
    """A healthy event with another key, value or headers; a header of None is missing."""

    def make() -> Message:
        plain = event()
        mixed = {**dict(plain.headers), **headers}
        kept = tuple((k, v) for k, v in mixed.items() if v is not None)
        return Message(plain.topic, key or plain.key, plain.value if value is None else value, kept)

    return make


NULL = b"\0 no value at all"
# One record of ten megabytes comes on top.
POISON: Sequence[tuple[str, Callable[[], Message]]] = (
    ("invalid_data", changed(value=bytes(range(256)) * 4)),
    ("invalid_data", changed(value=b'{"member_id": ')),
    ("invalid_data", changed(value=b"[" * 100_000)),
    ("invalid_data", changed(value=b'{"a":' * 40_000)),
    ("invalid_data", changed(value=b'{"member_id": 7, "phone": "+919876543210"}')),
    ("invalid_data", changed(value=b"")),
    ("not_a_cloudevent", changed(value=NULL)),
    ("not_a_cloudevent", changed(ce_id=None)),
    ("not_a_cloudevent", changed(ce_sequence=b"-3")),
    ("not_a_cloudevent", changed(ce_time=b"yesterday")),
    ("not_a_cloudevent", changed(ce_specversion=b"2.0")),
    ("not_a_cloudevent", changed(ce_source=b"\xff\xfe")),
    ("unknown_type", changed(ce_type=None)),
    ("unknown_type", changed(ce_type=b"member.sang")),
    ("unknown_type", changed(ce_type=b"member.sang.v2")),
    ("key_mismatch", changed(key=b"somebody-else")),
    ("key_mismatch", changed(ce_subject=b"somebody-else")),
    ("too_large", changed(value=b'"' + b"x" * 300_000 + b'"')),
)
FUTURE = changed(ce_type=b"member.joined.v2")


@dataclass
class Topics:
    """The same healthy events in each; `letters` is what the poisoned one must leave behind: reasons by offset."""

    clean: str
    poisoned: str
    letters: dict[int, str]


async def fill(kafka: str, topic: str, messages: Sequence[Message]) -> None:
    """In order, in one partition."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, max_request_size=2 * LARGEST, linger_ms=5)
    await producer.start()
    try:
        for start in range(0, len(messages), 500):
            chunk = messages[start : start + 500]
            sent = [
                await producer.send(
                    topic,
                    None if m.value == NULL else m.value,
                    key=m.key,
                    headers=list(m.headers),
                    partition=0,
                )
                for m in chunk
            ]
            await asyncio.gather(*sent)
    finally:
        await producer.stop()


def poisoned(healthy: Sequence[Message]) -> tuple[list[Message], dict[int, str]]:
    """Bad records among the healthy, one in `POISON_EVERY`; a future version and a huge one, too."""
    mixed: list[Message] = []
    letters: dict[int, str] = {}

    def add(reason: str, message: Message) -> None:
        letters[len(mixed)] = reason
        mixed.append(message)

    for n, message in enumerate(healthy):
        mixed.append(message)
        if n % POISON_EVERY == 0:
            reason, make = POISON[n // POISON_EVERY % len(POISON)]
            add(reason, make())
        if n % 2000 == 1000:
            mixed.append(FUTURE())
        if n == len(healthy) // 2:
            add("too_large", changed(value=b"x" * LARGEST)())
    return mixed, letters


@pytest.fixture
async def topics(kafka_bootstrap: str, database_name: str) -> Topics:
    config = {"max.message.bytes": str(2 * LARGEST)}
    clean, bad = f"{database_name}.clean", f"{database_name}.poisoned"
    await create_topics(kafka_bootstrap, [TopicSpec(name, 1, 1, config) for name in (clean, bad)])
    healthy = [event() for _ in range(HEALTHY)]
    mixed, letters = poisoned(healthy)
    await fill(kafka_bootstrap, clean, healthy)
    await fill(kafka_bootstrap, bad, mixed)
    return Topics(clean, bad, letters)


class Drain:
    """A consumer group and a database of its own, which read a topic once from its beginning."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.applied = 0
        self.began = self.ended = 0.0

    async def handle(self, events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        await self.bench.record_effects(events, work)
        work.after_commit(lambda: self._note(len(events)))

    def _note(self, count: int) -> None:
        # From the first batch: joining the group takes its time, poisoned or not.
        if not self.applied:
            self.began = time.perf_counter()
        self.applied += count
        self.ended = time.perf_counter()

    async def rate(self) -> float:
        """Healthy events a second."""
        self.bench.run(self.bench.consumer(self.handle))

        async def done() -> bool:
            return self.applied >= HEALTHY

        await self.bench.until(done, 120)
        return HEALTHY / (self.ended - self.began)


@pytest.fixture
async def drains(
    mongo_uri: str, kafka_bootstrap: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[str], Any]]:
    benches: list[Bench] = []

    async def drain(topic: str) -> Drain:
        monkeypatch.setattr(MemberJoined, "topic", topic)
        name = f"{database_name}_{len(benches)}"
        await create_topics(kafka_bootstrap, [TopicSpec(f"{name}.dlq", 1, 1)])
        real = Real(mongo_uri, kafka_bootstrap)
        bench = Bench(real.client(), real.broker(), name, topic)
        benches.append(bench)
        await real.migrate(bench)
        return Drain(bench)

    yield drain
    for bench in benches:
        await bench.halt()
        await bench.client.drop_database(bench.group)
        bench.client.close()


@pytest.mark.heavy
@pytest.mark.timeout(600)
async def test_poison_costs_the_healthy_less_than_a_tenth_of_their_rate(
    topics: Topics, drains: Callable[[str], Any]
) -> None:
    """Both in turn, a fixed number of times, and the best of each: the one that the machine disturbed least."""
    rates: dict[str, list[float]] = {topics.clean: [], topics.poisoned: []}
    for _ in range(ROUNDS):
        for topic, measured in rates.items():
            drain = await drains(topic)
            measured.append(await drain.rate())
            await drain.bench.halt()
    clean, bad = (max(measured) for measured in rates.values())
    assert bad >= LEAST_SHARE * clean, rates


@pytest.mark.heavy
@pytest.mark.timeout(300)
async def test_each_bad_record_is_dead_lettered_once_with_its_reason(
    topics: Topics, drains: Callable[[str], Any]
) -> None:
    drain = await drains(topics.poisoned)
    bench: Bench = drain.bench
    await drain.rate()
    total = len(topics.letters)

    async def buried() -> bool:
        return await bench.dead_letters.letters.count_documents({}) >= total

    await bench.until(buried)
    await bench.halt()
    await bench.publish()
    copies = await bench.read(bench.dead_letters.topic, total + 1, seconds=5)
    headers = [dict(copy.headers) for copy in copies]
    assert len(copies) == total
    assert {int(h["dlq_offset"]): h["dlq_reason"].decode() for h in headers} == topics.letters
    rows = await bench.dead_letters.find(Filter(), after=None, limit=total + 1)
    assert [(row["offset"], row["reason"]) for row in rows] == sorted(topics.letters.items())
    assert {copy.key for copy in copies} == {row["_id"].encode() for row in rows}
    assert "9876543210" not in str(rows) + str(copies)
    assert max(row["bytes"] for row in rows) == LARGEST
    assert len(await bench.effects.distinct("event")) == HEALTHY
    assert await bench.effects.count_documents({}) == HEALTHY
    skipped = bench.metrics.events.labels("newer_version", "ignored")
    assert skipped._value.get() == HEALTHY / 2000
