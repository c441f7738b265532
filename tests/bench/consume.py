"""Draining `member.joined` through groups: ours, FastStream per message with the same job, and a hand-written loop.

Every contender keeps the same guarantees (inbox, placement, staged events, offsets committed after the
transaction) and calls the same placement code on the same MongoDB; they differ in how messages reach it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker as FastStreamBroker
from faststream.kafka import KafkaMessage
from prometheus_client import CollectorRegistry

from services.groups.domain import Change
from services.groups.handlers import Handlers
from services.groups.metrics import GroupsMetrics
from services.groups.placing import Asked, Placing
from services.groups.settings import GroupsSettings
from services.groups.store import MIGRATIONS, Store
from services.groups.subscriptions import subscriptions
from services.shared.contracts.base import Envelope
from services.shared.contracts.members import TOPIC
from services.shared.eventkit.broker import Partition, Record
from services.shared.eventkit.codec import decode
from services.shared.eventkit.inbox import Inbox
from services.shared.eventkit.outbox import Origin, UnitOfWork
from services.shared.kernel import Kernel
from services.shared.migrations import migrate
from services.shared.mongo import Document
from tests.bench.environment import UNITS, Environment, Figure, Ratio, best, fill, new_topics, timed_until

Contender = Callable[["Bed", str, asyncio.Event], Coroutine[Any, Any, None]]
BATCHED, SINGLY = 20_000, 1_000
ROUNDS = 2
GOAL = 10.0


class Bed:
    """The groups service without HTTP: its store, its placement, its unit of work."""

    def __init__(self, env: Environment, prefix: str) -> None:
        self.env = env
        self.settings = GroupsSettings(**env.settings(prefix))
        self.kernel = Kernel(self.settings)
        self.store = Store(self.kernel.database, self.kernel.clock)
        self.placing = Placing(self.store, GroupsMetrics(CollectorRegistry()), capacity=1024)
        self.inbox = Inbox(self.kernel.database)

    async def prepare(self) -> None:
        await migrate(self.kernel.database, MIGRATIONS, self.kernel.clock)
        units: list[Document] = [
            {"_id": u, "level": "block", "parent": None, "name": {"en": u, "hi": u}, "version": 1}
            for u in UNITS
        ]
        await self.kernel.database["units"].insert_many(units)

    async def placed(self) -> int:
        return await self.kernel.database["placements"].estimated_document_count()

    async def check(self, count: int) -> None:
        """The job was really done: every member has a seat, an inbox id and its events."""
        seats = (
            await self.kernel.database["groups"]
            .aggregate([{"$group": {"_id": None, "n": {"$sum": "$taken"}}}])
            .to_list(None)
        )
        groups = await self.kernel.database["groups"].count_documents({})
        assert seats[0]["n"] == count, seats
        assert await self.kernel.database["inbox"].count_documents({}) == count
        assert await self.kernel.outbox.rows.count_documents({}) == count + groups


async def ours(bed: Bed, prefix: str, stop: asyncio.Event) -> None:
    bed.kernel.subscribe(subscriptions(Handlers(bed.placing)))
    assert bed.kernel.consumer is not None
    await bed.kernel.consumer.run(stop)


async def faststream_per_message(bed: Bed, prefix: str, stop: asyncio.Event) -> None:
    """FastStream's plain subscriber, acknowledged by hand after the transaction."""
    broker = FastStreamBroker(bed.env.kafka, logger=None)

    @broker.subscriber(
        prefix + TOPIC,
        group_id=prefix + "faststream",
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.MANUAL,
    )
    async def handle(body: Any, message: KafkaMessage) -> None:
        raw: Any = message.raw_message
        event: Envelope[Any] = decode(
            Record(Partition(TOPIC, raw.partition), raw.offset, raw.key, raw.value, tuple(raw.headers), 0)
        )

        async def apply(work: UnitOfWork) -> None:
            if await bed.inbox.seen([event.id], work.session):
                return
            asked = Asked(Change(event.subject, event.sequence, event.data.unit), Origin.of(event))
            await bed.placing.apply([asked], work)
            await bed.inbox.add([event.id], bed.kernel.clock.now(), work.session)

        await bed.kernel.outbox.transact(apply)
        await message.ack()

    app = FastStream(broker, logger=None)
    running = asyncio.create_task(app.run())
    await stop.wait()
    app.exit()
    await running


async def by_hand(bed: Bed, prefix: str, stop: asyncio.Event) -> None:
    """The limit: raw aiokafka and one transaction a batch, no metrics, no waves, no dead letters."""
    consumer = AIOKafkaConsumer(
        prefix + TOPIC,
        bootstrap_servers=bed.env.kafka,
        group_id=prefix + "by-hand",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=2 * 1024 * 1024,
    )
    await consumer.start()
    while not stop.is_set():
        batches = await consumer.getmany(timeout_ms=100, max_records=500)
        events = [
            decode(Record(Partition(TOPIC, r.partition), r.offset, r.key, r.value, tuple(r.headers), 0))
            for records in batches.values()
            for r in records
        ]
        if not events:
            continue

        async def apply(work: UnitOfWork, events: Any = events) -> None:
            seen = await bed.inbox.seen([e.id for e in events], work.session)
            new = [e for e in events if e.id not in seen]
            asked = [Asked(Change(e.subject, e.sequence, e.data.unit), Origin.of(e)) for e in new]
            await bed.placing.apply(asked, work)
            await bed.inbox.add([e.id for e in new], bed.kernel.clock.now(), work.session)

        await bed.kernel.outbox.transact(apply)
        await consumer.commit(
            {TopicPartition(tp.topic, tp.partition): r[-1].offset + 1 for tp, r in batches.items()}
        )
    await consumer.stop()


async def drain(env: Environment, name: str, contender: Contender, count: int) -> Figure:
    """Events per second from the first placement to the last, so that joining the group is not measured."""
    prefix = await new_topics(env)
    bed = Bed(env, prefix)
    await bed.prepare()
    await fill(env, prefix, count)
    stop = asyncio.Event()
    running = asyncio.create_task(contender(bed, prefix, stop))
    try:
        await timed_until(bed.placed, 1, time.perf_counter())
        first, began = await bed.placed(), time.perf_counter()
        seconds = await timed_until(bed.placed, count, began)
    finally:
        stop.set()
        await asyncio.wait({running}, timeout=15)
    await bed.check(count)
    await bed.kernel.client.drop_database(bed.settings.database)
    bed.kernel.client.close()
    return Figure(name, (count - first) / seconds)


async def measure(env: Environment) -> list[Ratio]:
    async def rounds(name: str, contender: Contender, count: int) -> Figure:
        return best([await drain(env, name, contender, count) for _ in range(ROUNDS)])

    limit = await rounds("hand-written loop", by_hand, BATCHED)
    mine = await rounds("groups", ours, BATCHED)
    singly = await rounds("FastStream per message", faststream_per_message, SINGLY)
    what = "member.joined drained by groups, events/s"
    return [Ratio(what, mine, singly, GOAL), Ratio(what, mine, limit, 0.8)]
