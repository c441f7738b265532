"""The `Broker` protocol: guarantees that messaging relies on, from Kafka and from the fake alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from itertools import groupby
from typing import Any

import pytest

from services.shared.messaging import Consumer, Message, Partition, Producer, RebalancedError, Record
from services.shared.messaging.kafka.client import FETCH_WAIT_MS
from tests.integration.messaging.conftest import Bench, on_the_real_things_alone

Join = Callable[[], Coroutine[Any, Any, Consumer]]


@pytest.fixture
async def producer(bench: Bench) -> AsyncIterator[Producer]:
    producer = await bench.broker.producer()
    yield producer
    await producer.stop()


@pytest.fixture
async def join(bench: Bench) -> AsyncIterator[Join]:
    """Adds another member to this test's consumer group."""
    members: list[Consumer] = []

    async def join() -> Consumer:
        members.append(await bench.broker.consumer(bench.group, [bench.topic]))
        return members[-1]

    yield join
    for member in members:
        await member.stop()


def messages(topic: str, keys: int, each: int) -> list[Message]:
    return [
        Message(topic, f"key {k}".encode(), b"%d" % n, (("n", b"%d" % n), ("k", b"%d" % k)))
        for n in range(each)
        for k in range(keys)
    ]


async def take(consumer: Consumer, count: int, most: int = 1000, seconds: float = 20) -> list[Record]:
    """Fetch until there are `count`, or until time runs out."""
    records: list[Record] = []
    deadline = asyncio.get_running_loop().time() + seconds
    while len(records) < count and asyncio.get_running_loop().time() < deadline:
        records += await consumer.fetch(most, 0.2)
    return records


def ends(records: Sequence[Record]) -> dict[Partition, int]:
    return {record.partition: record.offset + 1 for record in records}


async def test_a_key_has_one_partition_and_its_records_keep_their_order_and_headers(
    bench: Bench, producer: Producer, join: Join
) -> None:
    sent = messages(bench.topic, 10, 20)
    await producer.publish(sent)
    records = await take(await join(), 200)
    assert len({r.partition for r in records}) > 1
    for key, own in groupby(sorted(records, key=lambda r: r.key or b""), key=lambda r: r.key):
        mine = list(own)
        assert len({r.partition for r in mine}) == 1
        assert [(r.value, r.headers) for r in mine] == [(m.value, m.headers) for m in sent if m.key == key]
    for partition in {r.partition for r in records}:
        offsets = [r.offset for r in records if r.partition == partition]
        assert offsets == list(range(len(offsets)))


async def test_a_fetch_returns_at_most_its_limit_and_may_be_empty(
    bench: Bench, producer: Producer, join: Join
) -> None:
    consumer = await join()
    assert await consumer.fetch(10, 0.1) == []
    await producer.publish(messages(bench.topic, 5, 6))
    sizes, total = [], 0
    while total < 30:
        sizes.append(len(await consumer.fetch(7, 1)))
        total += sizes[-1]
        assert len(sizes) < 50
    assert max(sizes) <= 7
    assert total == 30
    assert await consumer.fetch(7, 0.1) == []


async def test_a_successor_begins_at_the_committed_offsets(
    bench: Bench, producer: Producer, join: Join
) -> None:
    await producer.publish(messages(bench.topic, 5, 4))
    first = await join()
    done = await take(first, 20)
    await first.commit(ends(done))
    await producer.publish(messages(bench.topic, 5, 1))
    assert len(await take(first, 5)) == 5  # and never committed
    await first.stop()
    again = await take(await join(), 5)
    assert {(r.partition, r.offset) for r in again}.isdisjoint((r.partition, r.offset) for r in done)
    assert len(again) == 5


async def test_rewound_records_are_read_again(bench: Bench, producer: Producer, join: Join) -> None:
    await producer.publish(messages(bench.topic, 5, 4))
    consumer = await join()
    records = await take(consumer, 20)
    one = records[0].partition
    consumer.rewind({one: 1, Partition(bench.topic, 99): 0})
    again = await take(consumer, sum(r.partition == one for r in records) - 1)
    assert {r.partition for r in again} <= {one}
    assert [r.offset for r in again] == [r.offset for r in records if r.partition == one][1:]


async def test_lag_counts_unfetched_records(bench: Bench, producer: Producer, join: Join) -> None:
    await producer.publish(messages(bench.topic, 5, 4))
    consumer = await join()
    fetched = await take(consumer, 1, most=4)
    assert sum((await consumer.lag()).values()) <= 20 - len(fetched)
    await take(consumer, 20 - len(fetched))
    assert sum((await consumer.lag()).values()) == 0
    assert len(await consumer.lag()) == 3


async def test_a_consumer_that_lost_a_partition_cannot_commit_it_and_its_successor_reads_it(
    bench: Bench, producer: Producer, join: Join
) -> None:
    await producer.publish(messages(bench.topic, 12, 2))
    first = await join()
    in_hand = await take(first, 24)
    second = await join()
    await shared(first, second)
    lost = {p: offset for p, offset in ends(in_hand).items() if p in second.assignment()}
    assert lost
    with pytest.raises(RebalancedError):
        await first.commit(ends(in_hand))
    again = await take(second, sum(r.partition in lost for r in in_hand))
    assert ends(again) == lost


@pytest.mark.heavy
async def test_a_partition_lost_and_regained_may_be_committed_and_is_read_again(
    bench: Bench, producer: Producer, join: Join
) -> None:
    """So a committed offset does not show who did the work: a batch dropped meanwhile must not be
    committed."""
    await producer.publish(messages(bench.topic, 12, 2))
    first = await join()
    in_hand = await take(first, 24)
    await first.commit(dict.fromkeys(ends(in_hand), 0))
    second = await join()
    await shared(first, second)
    await second.stop()
    await holds(first, 3)
    async with asyncio.timeout(10):
        # Once it has fetched its start offsets, the commit cannot influence them.
        while len(await first.positions()) < 3:  # noqa: ASYNC110 (a consumer gives no signal)
            await asyncio.sleep(0.05)
    await first.commit(ends(in_hand))
    assert len(await take(first, 24)) == 24
    third = await join()
    await shared(first, third)
    assert await third.fetch(100, 1) == []


async def shared(first: Consumer, second: Consumer) -> None:
    """Wait until the two hold all three partitions between them."""
    async with asyncio.timeout(30):
        while not (  # noqa: ASYNC110 (a consumer gives no signal)
            first.assignment()
            and second.assignment()
            and not set(first.assignment()) & set(second.assignment())
            and len({*first.assignment(), *second.assignment()}) == 3
        ):
            await asyncio.sleep(0.05)


async def holds(consumer: Consumer, partitions: int) -> None:
    async with asyncio.timeout(30):
        while len(consumer.assignment()) != partitions:  # noqa: ASYNC110 (a consumer gives no signal)
            await asyncio.sleep(0.05)


@on_the_real_things_alone
async def test_an_idle_consumer_does_not_busy_loop(bench: Bench, join: Join) -> None:
    """The embedded broker answers an empty fetch at once: without our pause a consumer would busy-loop on a
    core."""
    consumer = await join()
    await take(consumer, 1, seconds=1)
    used = time.process_time()
    await take(consumer, 1, seconds=2)
    assert time.process_time() - used < 0.4


@on_the_real_things_alone
async def test_a_record_after_an_idle_time_arrives_at_once(
    bench: Bench, producer: Producer, join: Join
) -> None:
    consumer = await join()
    await take(consumer, 1, seconds=1)
    fetch = asyncio.create_task(take(consumer, 1))
    await asyncio.sleep(0.3)
    began = time.perf_counter()
    await producer.publish(messages(bench.topic, 1, 1))
    assert len(await fetch) == 1
    assert time.perf_counter() - began < 0.4


@on_the_real_things_alone
async def test_empty_partitions_do_not_delay_a_backlog(bench: Bench, producer: Producer, join: Join) -> None:
    await producer.publish(messages(bench.topic, 1, 1000))
    consumer = await join()
    records = await take(consumer, 1, 500)
    await asyncio.sleep(0.15)  # a batch's time, and longer than aiokafka by itself waits for us
    records += await take(consumer, 1000 - len(records), 1000)
    await producer.publish(messages(bench.topic, 1, 1))
    began = time.perf_counter()
    assert len(await take(consumer, 1)) == 1
    assert time.perf_counter() - began < FETCH_WAIT_MS / 1000 / 2
