"""Gauges that must show the truth while things go wrong, on the real stores and on the fakes."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from services.shared.contracts.base import Envelope
from services.shared.database import MongoMetrics, connect, database
from services.shared.errors import PermanentError, TransientError
from services.shared.messaging import Filter, KafkaBroker, Outbox, UnitOfWork
from services.shared.messaging.consuming.fuse import FuseOpenError
from tests.integration.messaging.conftest import Bench, joined, on_the_real_things_alone
from tests.integration.messaging.test_consumer import message, raw


def lag_seconds(bench: Bench) -> float:
    value = bench.registry.get_sample_value("sangathan_consumer_lag_seconds", {"topic": bench.topic})
    assert value is not None
    return value


async def until(condition: Any, seconds: float = 20) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "waited in vain"
        await asyncio.sleep(0.05)


async def test_lag_seconds_grow_during_retries_and_are_zero_afterwards(
    bench: Bench,
) -> None:
    broken = True

    async def handler(events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        if broken:
            raise TransientError("peer")
        await bench.record_effects(events, work)

    await bench.publish((joined(), 1))
    bench.run(bench.consumer(handler))
    await until(lambda: lag_seconds(bench) > 0)
    earlier = lag_seconds(bench)
    await asyncio.sleep(0.5)
    assert lag_seconds(bench) >= earlier + 0.4

    broken = False
    await bench.effects_are(1)
    await until(lambda: lag_seconds(bench) == 0)
    await asyncio.sleep(0.3)
    assert lag_seconds(bench) == 0, "it grows again with nothing to consume"


async def test_a_consumer_started_behind_an_open_fuse_knows_since_when_records_wait(bench: Bench) -> None:
    await bench.publish(*((joined(), 1) for _ in range(5)))
    await asyncio.sleep(0.5)
    await bench.fuse.trip()
    bench.run(bench.consumer())
    await until(lambda: lag_seconds(bench) > 0)
    await asyncio.sleep(0.3)
    earlier = lag_seconds(bench)
    assert earlier >= 0.8, "it counts from when the records were noticed"
    await asyncio.sleep(1.2)
    assert lag_seconds(bench) >= earlier + 1
    assert bench.metrics.consumer.lag.labels(bench.topic)._value.get() == 5
    assert await bench.effects.count_documents({}) == 0

    await bench.fuse.reset()
    await bench.effects_are(5)
    await until(lambda: lag_seconds(bench) == 0)


async def test_a_consumer_that_cannot_commit_is_behind(bench: Bench) -> None:
    """The lag stays known when the fuse stops the current batch."""

    async def handler(events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        raise PermanentError("bug")

    await bench.publish(*((joined(), 1) for _ in range(120)))
    bench.run(bench.consumer(handler))
    await until(lambda: bench.fuse.open, 60)
    await asyncio.sleep(0.3)
    earlier = lag_seconds(bench)
    assert earlier > 0
    await asyncio.sleep(0.5)
    assert lag_seconds(bench) >= earlier + 0.4


@on_the_real_things_alone
async def test_open_and_settled_letters_are_counted(bench: Bench) -> None:
    async def handler(events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        raise PermanentError("bug")

    await bench.publish(*((joined(), 1) for _ in range(3)))
    records = await bench.read(bench.topic, 3)
    await bench.applier(handler).apply(records)
    stop = asyncio.Event()
    watching = asyncio.create_task(bench.dead_letters.watch(stop))
    gauges = bench.metrics.dead_letters
    await until(lambda: gauges.open._value.get() == 3)
    stop.set()
    await watching

    first, second, _ = await bench.dead_letters.find(Filter(), after=None, limit=3)
    await bench.replayer().replay_one(first["_id"], by="ops-1")
    await bench.replayer().replay_one(first["_id"], by="ops-1")
    await bench.dead_letters.settle([second["_id"]], "discarded", by="ops-1", note="a test")
    assert gauges.settled.labels("replayed")._value.get() == 1
    assert gauges.settled.labels("discarded")._value.get() == 1


async def test_what_others_write_into_a_topic_makes_no_series(bench: Bench) -> None:
    async def series(numbers: range) -> int:
        bad = [
            message(headers={"ce_type": f"odd.{n}".encode(), "ce_subject": f"s{n}".encode()}) for n in numbers
        ]
        newer = [message(headers={"ce_type": f"member.joined.v{n + 2}".encode()}) for n in numbers]
        await raw(bench, *bad, *newer)
        records = await bench.read(bench.topic, 2 * numbers.stop)
        try:
            await bench.applier().apply(records)
        except FuseOpenError:
            await bench.fuse.reset()
        return len(generate_latest(bench.registry).splitlines())

    await series(range(2))
    few = await series(range(2, 4))  # the first two are read again, so there are duplicates too
    assert await series(range(4, 30)) == few


@on_the_real_things_alone
async def test_rebalances_are_counted(bench: Bench, kafka_bootstrap: str) -> None:
    assigned: Counter[str] = Counter()
    members = []
    for name in ("one", "two"):
        broker = KafkaBroker(kafka_bootstrap, client_id=name, on_assigned=partial(assigned.update, [name]))
        members.append(await broker.consumer(bench.group, [bench.topic]))
        for _ in range(200):
            for member in members:
                await member.fetch(1, 0.05)
            if assigned[name]:
                break
    for member in members:
        await member.stop()
    assert assigned["one"] >= 2, "the second member's coming was not noticed"
    assert assigned["two"] >= 1


@pytest.mark.parametrize(("option", "most"), [("", 100), ("&maxPoolSize=7", 7), ("&maxPoolSize=0", math.inf)])
async def test_a_pool_exports_its_connection_limit(mongo_uri: str, option: str, most: float) -> None:
    registry = CollectorRegistry()
    client = connect(mongo_uri + option, app_name="tests", listeners=[MongoMetrics(registry)])
    await client.admin.command("ping")
    assert registry.get_sample_value("sangathan_mongo_pool_max_connections") == most
    client.close()


@on_the_real_things_alone
async def test_mongodb_metrics_count_pool_and_retries(
    mongo_uri: str, database_name: str, bench: Bench
) -> None:
    registry = CollectorRegistry()
    metrics = MongoMetrics(registry)
    client = connect(mongo_uri, app_name="tests", listeners=[metrics])
    db = database(client, database_name)
    await db.create_collection("rows")
    outbox = Outbox(client, db, bench.clock, on_retry=metrics.transaction_retries.inc)
    together = asyncio.Barrier(2)
    first_runs: set[int] = set()

    async def write(who: int) -> None:
        async def body(work: UnitOfWork) -> None:
            await db["rows"].find_one({"_id": 1}, session=work.session)
            if who not in first_runs:  # both have read before either writes: one must lose
                first_runs.add(who)
                await together.wait()
            await db["rows"].update_one({"_id": 1}, {"$inc": {"n": 1}}, upsert=True, session=work.session)

        await outbox.transact(body)

    await asyncio.gather(write(1), write(2))
    assert (await db["rows"].find_one({"_id": 1}))["n"] == 2  # type: ignore[index]

    def value(name: str, **labels: str) -> float:
        return registry.get_sample_value(f"sangathan_mongo_{name}", labels) or 0.0

    assert value("transaction_retries_total") >= 1
    assert value("pool_wait_seconds_count") >= 4
    assert value("pool_connections", state="in_use") == 0
    assert value("pool_connections", state="idle") >= 1
    await client.drop_database(database_name)
    client.close()
    await until(lambda: value("pool_connections", state="idle") == 0)
