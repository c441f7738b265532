"""Messaging without a service, with a handler that writes one effect per event: on the real stores and on the
fakes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.shared.clock import SystemClock
from services.shared.contracts.base import Envelope
from services.shared.contracts.members import MemberJoined
from services.shared.contracts.vocabulary import Gender
from services.shared.database import Client, Lease, connect, database, migrate
from services.shared.ids import new_id
from services.shared.messaging import (
    Applier,
    BatchConsumer,
    Broker,
    DeadLetters,
    Fuse,
    Handler,
    Inbox,
    KafkaBroker,
    MessagingMetrics,
    Origin,
    Outbox,
    Record,
    Relay,
    Replayer,
    Splitter,
    TopicSpec,
    UnitOfWork,
    create_topics,
)
from services.shared.runtime.composition import PLATFORM_MIGRATIONS
from tests.fakes.kafka import Log, MemoryBroker
from tests.fakes.mongo import client as memory_client
from tests.fakes.store import Store

ORIGIN = Origin("request-1", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")


def joined(member_id: str | None = None, unit: str = "BR-SARAN") -> MemberJoined:
    return MemberJoined(
        member_id=member_id or new_id(),
        unit=unit,
        gender=Gender.FEMALE,
        language="hi",
        joined_at=datetime(2026, 11, 23, tzinfo=UTC),
    )


@dataclass(frozen=True)
class Real:
    """A MongoDB and a broker, by their addresses."""

    mongo_uri: str
    kafka: str

    def client(self) -> Client:
        return connect(self.mongo_uri, app_name="tests")

    def broker(self) -> Broker:
        return KafkaBroker(self.kafka, client_id="tests")

    async def create(self, topics: Sequence[TopicSpec]) -> None:
        await create_topics(self.kafka, topics)

    async def migrate(self, bench: Bench) -> None:
        await migrate(bench.db, PLATFORM_MIGRATIONS, bench.clock)


class Memory:
    """The fakes; the suites that run on both hold them to the real thing."""

    def __init__(self) -> None:
        now = SystemClock().now
        self._store, self._log = Store(now), Log(now)

    def client(self) -> Client:
        return memory_client(self._store)

    def broker(self) -> Broker:
        return MemoryBroker(self._log)

    async def create(self, topics: Sequence[TopicSpec]) -> None:
        self._log.create(topics)

    async def migrate(self, bench: Bench) -> None:
        """Do nothing: the fake creates collections on the first write and has no indexes."""


class Bench:
    """Everything a service's runtime holds, with topics of this test only."""

    def __init__(self, client: Client, broker: Broker, name: str, topic: str) -> None:
        self.clock = SystemClock()
        self.client = client
        self.db = database(client, name)
        self.broker = broker
        self.group = name
        self.topic = topic
        self.registry = CollectorRegistry()
        self.metrics = MessagingMetrics(self.registry)
        self.outbox = Outbox(self.client, self.db, self.clock)
        self.dead_letters = DeadLetters(self.db, self.clock, self.group, self.metrics)
        self.fuse = Fuse(self.db, self.clock)
        self.effects = self.db["effects"]
        self._tasks: list[tuple[asyncio.Event, asyncio.Task[None]]] = []

    def relay(self, *, seconds: float = 5, max_batch: int = 1000) -> Relay:
        lease = Lease(self.db, "relay", seconds=seconds)
        return Relay(self.outbox, self.broker, lease, self.metrics, max_batch=max_batch)

    def splitter(self) -> Splitter:
        return Splitter(self.db, lambda event: event.data.unit)

    def consumer(
        self, handler: Handler | None = None, *, group: str | None = None, splitter: Splitter | None = None
    ) -> BatchConsumer:
        return BatchConsumer(
            applier=self.applier(handler, group=group, splitter=splitter),
            broker=self.broker,
            fuse=self.fuse,
            clock=self.clock,
            metrics=self.metrics,
            max_batch=500,
        )

    def applier(
        self, handler: Handler | None = None, *, group: str | None = None, splitter: Splitter | None = None
    ) -> Applier:
        return Applier(
            group=group or self.group,
            subscriptions={MemberJoined: handler or self.record_effects},
            outbox=self.outbox,
            inbox=Inbox(self.db),
            dead_letters=self.dead_letters,
            fuse=self.fuse,
            clock=self.clock,
            metrics=self.metrics,
            splitter=splitter or self.splitter(),
        )

    def replayer(self, handler: Handler | None = None) -> Replayer:
        return Replayer(
            group=self.group,
            subscriptions={MemberJoined: handler or self.record_effects},
            broker=self.broker,
            outbox=self.outbox,
            inbox=Inbox(self.db),
            dead_letters=self.dead_letters,
            clock=self.clock,
        )

    async def record_effects(self, events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        await self.effects.insert_many(
            [
                {"event": e.id, "subject": e.subject, "sequence": e.sequence, "n": i}
                for i, e in enumerate(events)
            ],
            session=work.session,
        )

    async def stage(self, *events: tuple[MemberJoined, int]) -> None:
        async def body(work: UnitOfWork) -> None:
            for event, sequence in events:
                work.stage(event, sequence, ORIGIN)

        await self.outbox.transact(body)

    async def publish(self, *events: tuple[MemberJoined, int]) -> None:
        """Publish through the outbox and one relay batch."""
        await self.stage(*events)
        relay = self.relay()
        while await relay.publish_batch():
            pass
        await relay._close()

    def run(self, loop: Any) -> tuple[asyncio.Event, asyncio.Task[None]]:
        """Run a relay or consumer, and a consumer's gauges too."""
        stop = asyncio.Event()
        if isinstance(loop, BatchConsumer):
            self._tasks.append((stop, asyncio.create_task(loop.watch(stop))))
        task = asyncio.create_task(loop.run(stop))
        self._tasks.append((stop, task))
        return stop, task

    async def halt(self) -> None:
        for stop, _ in self._tasks:
            stop.set()
        await asyncio.gather(*(task for _, task in self._tasks), return_exceptions=True)
        self._tasks.clear()

    async def read(self, topic: str, count: int, seconds: float = 10) -> list[Record]:
        """The first `count` records of a topic, by a separate reader; fewer when time runs out."""
        consumer = await self.broker.consumer(f"reader-{new_id()}", [topic])
        records: list[Record] = []
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            while len(records) < count and asyncio.get_running_loop().time() < deadline:
                records += await consumer.fetch(1000, 0.2)
        finally:
            await consumer.stop()
        return records

    async def until(self, condition: Any, seconds: float = 60) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while not await condition():
            assert asyncio.get_running_loop().time() < deadline, "waited in vain"
            await asyncio.sleep(0.02)

    async def effects_are(self, count: int, seconds: float = 60) -> None:
        async def enough() -> bool:
            return await self.effects.count_documents({}) >= count

        await self.until(enough, seconds)


on_the_real_things_alone = pytest.mark.parametrize("backend", ["real"], indirect=True)
"""For tests that use more queries than messaging does: the fakes support messaging's queries and refuse all
others."""


@pytest.fixture(params=["real", pytest.param("memory", marks=pytest.mark.anybroker)])
def backend(request: pytest.FixtureRequest) -> Real | Memory:
    if request.param == "memory":
        return Memory()
    return Real(request.getfixturevalue("mongo_uri"), request.getfixturevalue("kafka_bootstrap"))


@pytest.fixture
async def bench(
    backend: Real | Memory, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bench]:
    topic = f"test.{database_name}"
    monkeypatch.setattr(MemberJoined, "topic", topic)
    await backend.create([TopicSpec(topic, 3, 1), TopicSpec(f"{database_name}.dlq", 1, 1)])
    bench = Bench(backend.client(), backend.broker(), database_name, topic)
    await backend.migrate(bench)
    yield bench
    await bench.halt()
    await bench.client.drop_database(database_name)
    bench.client.close()
