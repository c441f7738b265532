from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from services.shared.database import Lease
from services.shared.errors import TransientError
from services.shared.ids import new_id
from services.shared.messaging import (
    PUBLISH_SECONDS,
    Broker,
    Consumer,
    Message,
    Partition,
    Reading,
    Refusal,
    Relay,
)
from tests.integration.messaging.conftest import Bench, joined


async def test_a_committed_event_is_published_once_and_its_row_deleted(bench: Bench) -> None:
    event = joined()
    await bench.publish((event, 1))

    (record,) = await bench.read(bench.topic, 1)
    headers = dict(record.headers)
    assert record.key == event.member_id.encode()
    assert headers["ce_type"] == b"member.joined"
    assert headers["ce_source"] == b"/members"
    assert headers["ce_sequence"] == b"1"
    assert headers["ce_correlationid"] == b"request-1"
    assert headers["content-type"] == b"application/json"
    assert await bench.outbox.rows.count_documents({}) == 0


async def test_nothing_is_published_when_the_transaction_fails(bench: Bench) -> None:
    async def body(work):
        work.stage(joined(), 1, bench_origin())
        raise RuntimeError("after staging")

    with pytest.raises(RuntimeError):
        await bench.outbox.transact(body)
    assert await bench.outbox.rows.count_documents({}) == 0
    assert not bench.outbox.staged.is_set()


def bench_origin():
    from tests.integration.messaging.conftest import ORIGIN

    return ORIGIN


async def test_rows_stay_when_the_broker_does_not_acknowledge(bench: Bench) -> None:
    class Deaf:
        async def publish(
            self, messages: Sequence[Message], timeout: float = PUBLISH_SECONDS
        ) -> dict[int, Refusal]:
            raise TransientError("no")

        async def probe(self) -> None: ...

        async def stop(self) -> None:
            pass

    await bench.stage((joined(), 1))
    relay = bench.relay()
    relay._producer = Deaf()
    with pytest.raises(TransientError):
        await relay.publish_batch()
    assert await bench.outbox.rows.count_documents({}) == 1


async def test_a_subject_is_published_in_sequence_although_clocks_of_replicas_differ(bench: Bench) -> None:
    """The later event has the smaller id (a slow clock), and the batch is too small to hold both."""
    subject = new_id()
    early_ids = sorted(new_id() for _ in range(4))
    await bench.stage((joined(subject), 2))
    row = await bench.outbox.rows.find_one({})
    assert row is not None
    await bench.outbox.rows.delete_one({"_id": row["_id"]})
    await bench.outbox.rows.insert_one({**row, "_id": "0" + early_ids[0][1:]})
    await bench.stage((joined(), 1), (joined(), 1))
    await bench.stage((joined(subject), 1))

    relay = bench.relay(max_batch=2)
    while await relay.publish_batch():
        pass
    records = await bench.read(bench.topic, 4)
    sequences = [dict(r.headers)["ce_sequence"] for r in records if r.key == subject.encode()]
    assert sequences == [b"1", b"2"]
    await relay._close()


async def test_only_the_lease_holder_publishes_and_a_released_lease_is_taken_at_once(bench: Bench) -> None:
    first, second = bench.relay(), bench.relay()
    await bench.stage((joined(), 1))
    assert await first.publish_batch() == 1
    await bench.stage((joined(), 1))
    assert await second.publish_batch() == 0
    await first._close()
    assert await second.publish_batch() == 1
    await second._close()


async def test_an_expired_lease_is_taken_over_and_its_old_holder_notices(bench: Bench) -> None:
    old = Lease(bench.db, "job", seconds=0.3)
    new = Lease(bench.db, "job", seconds=30)
    assert await old.hold()
    assert not await new.hold()
    await asyncio.sleep(0.5)
    assert not old.held
    assert await new.hold()
    assert not await old.hold()


async def test_a_doubled_relay_duplicates_no_effect(bench: Bench) -> None:
    """Two relays that both believe in their lease publish the same rows; the inbox applies each once."""
    await bench.stage(*((joined(), 1) for _ in range(50)))
    rows = await bench.outbox.rows.find().to_list(None)
    await bench.publish()
    await bench.outbox.rows.insert_many(rows)
    await bench.publish()
    assert len(await bench.read(bench.topic, 100)) == 100

    bench.run(bench.consumer())
    await bench.effects_are(50)
    await asyncio.sleep(0.5)
    assert await bench.effects.count_documents({}) == 50


class Turnstile:
    """A broker whose producers record who publishes, and who else does at the same time."""

    def __init__(self, broker: Broker, name: str, inside: set[str], crowds: list[set[str]]) -> None:
        self._broker = broker
        self._name = name
        self._inside = inside
        self._crowds = crowds
        self.published = 0

    async def producer(self) -> Turnstile:
        self._producer = await self._broker.producer()
        return self

    async def consumer(self, group: str, topics: Sequence[str]) -> Consumer:
        return await self._broker.consumer(group, topics)

    async def read(self, places: Sequence[tuple[Partition, int]]) -> Reading:
        return await self._broker.read(places)

    async def probe(self) -> None:
        await self._producer.probe()

    async def publish(
        self, messages: Sequence[Message], timeout: float = PUBLISH_SECONDS
    ) -> Mapping[int, Refusal]:
        self._inside.add(self._name)
        self._crowds.append(set(self._inside))
        try:
            refused = await self._producer.publish(messages, timeout)
            self.published += len(messages)
            return refused
        finally:
            self._inside.discard(self._name)

    async def stop(self) -> None:
        await self._producer.stop()


async def test_one_of_two_relays_publishes_at_a_time_and_the_other_takes_over(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three leaders in turn: the first stops in order, the second dies with its lease, the third takes
    over."""
    inside: set[str] = set()
    crowds: list[set[str]] = []
    brokers = [Turnstile(bench.broker, name, inside, crowds) for name in ("first", "second", "third")]
    leases = [Lease(bench.db, "relay", seconds=1.5) for _ in brokers]
    first, second, third = (
        Relay(bench.outbox, broker, lease, bench.metrics, max_batch=7)
        for broker, lease in zip(brokers, leases, strict=True)
    )
    subjects = [new_id() for _ in range(6)]

    async def stage(sequences: range) -> None:
        for n in sequences:
            await bench.stage(*((joined(subject), n) for subject in subjects))

    async def drained() -> bool:
        return await bench.outbox.rows.count_documents({}) == 0

    stop, task = bench.run(first)

    async def leads() -> bool:
        return leases[0].held

    await bench.until(leads)
    _, dying = bench.run(second)
    await stage(range(1, 11))
    stop.set()  # while rows are left
    await task
    await stage(range(11, 21))
    await bench.until(drained)
    monkeypatch.setattr(leases[1], "release", _nothing)
    dying.cancel()
    bench.run(third)
    await stage(range(21, 31))
    await bench.until(drained)

    assert all(len(crowd) == 1 for crowd in crowds)
    assert all(broker.published for broker in brokers)
    records = await bench.read(bench.topic, 180)
    assert len(records) == sum(broker.published for broker in brokers) == 180
    for subject in subjects:
        own = [int(dict(r.headers)["ce_sequence"]) for r in records if r.key == subject.encode()]
        assert own == list(range(1, 31))


async def _nothing() -> None: ...


async def test_stopping_publishes_what_is_staged(bench: Bench) -> None:
    stop, task = bench.run(bench.relay())
    await asyncio.sleep(0.1)
    await bench.stage(*((joined(), 1) for _ in range(20)))
    stop.set()
    await task
    assert await bench.outbox.rows.count_documents({}) == 0
    assert len(await bench.read(bench.topic, 20)) == 20
