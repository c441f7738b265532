"""A poisoned topic: healthy events flow on, and each bad record is dead-lettered once, with the right reason.

tests/bench/poison.py measures the rate.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from services.shared.contracts.base import Envelope
from services.shared.contracts.members import MemberJoined
from services.shared.messaging import Filter, Message, TopicSpec, UnitOfWork, create_topics
from tests.fixtures.poison import FUTURE, NULL, POISON, changed, event
from tests.integration.messaging.conftest import Bench, Real

HEALTHY = 20_000
POISON_EVERY = 50
LARGEST = 10 * 1024 * 1024


@dataclass
class Topics:
    """`letters` are the dead letters that the poisoned topic must leave: reasons by offset."""

    poisoned: str
    letters: dict[int, str]


async def fill(kafka: str, topic: str, messages: Sequence[Message]) -> None:
    """Publish in order, to one partition."""
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
    """Bad records among the healthy ones, one in `POISON_EVERY`, plus a future version and a huge record."""
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
        if n in (len(healthy) // 4, len(healthy) // 2):
            add("too_large", changed(value=b"x" * (300_000 if n < len(healthy) // 2 else LARGEST))())
    return mixed, letters


@pytest.fixture
async def topics(kafka_bootstrap: str, database_name: str) -> Topics:
    config = {"max.message.bytes": str(2 * LARGEST)}
    name = f"{database_name}.poisoned"
    await create_topics(kafka_bootstrap, [TopicSpec(name, 1, 1, config)])
    mixed, letters = poisoned([event() for _ in range(HEALTHY)])
    await fill(kafka_bootstrap, name, mixed)
    return Topics(name, letters)


class Drain:
    """A separate consumer group and database that read a topic once from its beginning."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.applied = 0

    async def handle(self, events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        await self.bench.record_effects(events, work)

        def applied() -> None:
            self.applied += len(events)

        work.after_commit(applied)

    async def drained(self) -> None:
        self.bench.run(self.bench.consumer(self.handle))

        async def done() -> bool:
            return self.applied >= HEALTHY

        await self.bench.until(done, 120)


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
@pytest.mark.timeout(300)
async def test_each_bad_record_is_dead_lettered_once_with_its_reason(
    topics: Topics, drains: Callable[[str], Any]
) -> None:
    drain = await drains(topics.poisoned)
    bench: Bench = drain.bench
    await drain.drained()
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
    skipped = bench.metrics.consumer.events.labels("newer_version", "ignored")
    assert skipped._value.get() == HEALTHY / 2000
