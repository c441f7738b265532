"""A row that cannot be published is set aside with its subject or its topic; everything else flows, and
nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

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
    TopicSpec,
    create_topics,
)
from services.shared.messaging.broker import OF_A_TOPIC
from services.shared.messaging.publishing import set_aside
from tests.integration.messaging.conftest import Bench, joined, on_the_real_things_alone

Refuse = Callable[[Message], Refusal | None]


class Gatekeeper:
    """A broker that refuses what `refuse` names, and the later messages of a key of which it refused one."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.refuse: Refuse = lambda message: None
        self.asked: list[Message] = []

    async def producer(self) -> Gatekeeper:
        self._producer = await self._broker.producer()
        return self

    async def consumer(self, group: str, topics: Sequence[str]) -> Consumer:
        return await self._broker.consumer(group, topics)

    async def read(self, places: Sequence[tuple[Partition, int]]) -> Reading:
        return await self._broker.read(places)

    async def publish(
        self, messages: Sequence[Message], timeout: float = PUBLISH_SECONDS
    ) -> Mapping[int, Refusal]:
        self.asked += messages
        refused: dict[int, Refusal] = {}
        held: set[tuple[str, bytes]] = set()
        for i, message in enumerate(messages):
            if (message.topic, message.key) in held:
                refused[i] = Refusal.BEHIND
            elif why := self.refuse(message):
                refused[i] = why
                if why not in OF_A_TOPIC:
                    held.add((message.topic, message.key))
        assert not await self._producer.publish([m for i, m in enumerate(messages) if i not in refused])
        return refused

    async def probe(self) -> None: ...

    async def stop(self) -> None:
        await self._producer.stop()


@pytest.fixture
def gate(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Gatekeeper:
    monkeypatch.setattr(set_aside, "PAUSES", (0.0, 0.0))  # every turn tries again
    gate = Gatekeeper(bench.broker)
    bench.broker = gate
    return gate


async def drain(relay: Relay) -> None:
    while await relay.publish_batch():
        pass


async def marked(bench: Bench) -> list[tuple[int, str]]:
    rows = await bench.outbox.rows.find({"stuck": {"$ne": None}}).sort("sequence", 1).to_list(None)
    return [(row["sequence"], row["stuck"]) for row in rows]


async def sequences(bench: Bench, subject: str, count: int) -> list[int]:
    records = await bench.read(bench.topic, count, 5)
    return [int(dict(r.headers)["ce_sequence"]) for r in records if r.key == subject.encode()]


async def stage_to(bench: Bench, topic: str, count: int) -> None:
    """Stage `count` messages to another topic, such as that of the dead letters."""

    async def body(work: Any) -> None:
        for _ in range(count):
            id_ = new_id()
            work.stage_message(Message(topic, id_.encode(), b"{}", ()), id_, 1, bench.clock.now())

    await bench.outbox.transact(body)


@pytest.mark.parametrize("max_batch", [2, 1000])
async def test_a_refused_record_holds_back_its_subject_alone_until_it_is_taken(
    bench: Bench, gate: Gatekeeper, max_batch: int
) -> None:
    bad, good = new_id(), new_id()
    gate.refuse = lambda m: (
        Refusal.INVALID if m.key == bad.encode() and dict(m.headers)["ce_sequence"] == b"2" else None
    )
    for n in range(1, 4):
        await bench.stage((joined(bad), n), (joined(good), n))
    relay = bench.relay(max_batch=max_batch)
    await drain(relay)
    await bench.stage((joined(bad), 4), (joined(good), 4))
    await drain(relay)
    assert await marked(bench) == [(2, "invalid"), (3, "behind"), (4, "behind")]
    assert await sequences(bench, good, 5) == [1, 2, 3, 4]

    gate.refuse = lambda m: None
    await drain(relay)
    assert await bench.outbox.rows.count_documents({}) == 0
    assert await sequences(bench, bad, 8) == [1, 2, 3, 4]
    await relay._close()


@pytest.mark.parametrize("why", sorted(OF_A_TOPIC))
async def test_a_dead_topic_does_not_fill_the_batches_of_the_others(
    bench: Bench, gate: Gatekeeper, why: Refusal
) -> None:
    """Its rows come first, are many, and grow in number."""
    dead = bench.dead_letters.topic
    gate.refuse = lambda m: why if m.topic == dead else None
    await stage_to(bench, dead, 1000)
    await bench.stage(*((joined(), 1) for _ in range(5)))
    relay = bench.relay(max_batch=50)
    await relay.publish_batch()
    await relay.publish_batch()
    assert len(await bench.read(bench.topic, 5)) == 5

    await stage_to(bench, dead, 200)
    await drain(relay)
    tried = [m for m in gate.asked if m.topic == dead]
    assert len(tried) < 50 + 20, "rows of a topic known to be dead are not tried one by one"
    assert await bench.outbox.rows.count_documents({"stuck": why.value}) == 1200
    await relay._gauge_set_aside()
    assert bench.metrics.relay.set_aside.labels(dead, why.value)._value.get() == 1200

    gate.refuse = lambda m: None
    await drain(relay)
    await relay._gauge_set_aside()
    assert bench.metrics.relay.set_aside.labels(dead, why.value)._value.get() == 0
    assert len(await bench.read(dead, 1200)) == 1200
    await relay._close()


async def test_another_process_goes_on_with_what_the_first_set_aside(bench: Bench, gate: Gatekeeper) -> None:
    subject = new_id()
    gate.refuse = lambda m: Refusal.TOO_LARGE if m.key == subject.encode() else None
    await bench.stage((joined(subject), 1), (joined(subject), 2))
    first = bench.relay()
    await drain(first)
    await first._close()
    await bench.stage((joined(subject), 3), (joined(), 1))
    second = bench.relay()
    await drain(second)
    assert await marked(bench) == [(1, "too_large"), (2, "behind"), (3, "behind")]
    gate.refuse = lambda m: None
    await drain(second)
    assert await sequences(bench, subject, 4) == [1, 2, 3]
    await second._close()


async def test_deleting_a_refused_row_frees_those_behind_it(bench: Bench, gate: Gatekeeper) -> None:
    subject = new_id()
    gate.refuse = lambda m: Refusal.INVALID if dict(m.headers)["ce_sequence"] == b"1" else None
    await bench.stage((joined(subject), 1), (joined(subject), 2), (joined(), 1))
    relay = bench.relay()
    await drain(relay)
    await bench.outbox.rows.delete_one({"subject": subject, "sequence": 1})
    await drain(relay)
    assert await sequences(bench, subject, 1) == [2]
    assert await marked(bench) == [(1, "invalid")]
    await relay._close()


async def test_unanswered_rows_stay_as_they_are_and_the_answered_ones_go(
    bench: Bench, gate: Gatekeeper
) -> None:
    silent = new_id()
    gate.refuse = lambda m: Refusal.UNANSWERED if m.key == silent.encode() else None
    await bench.stage((joined(silent), 1), (joined(), 1))
    relay = bench.relay()
    with pytest.raises(TransientError, match="1 rows"):
        await relay.publish_batch()
    assert await marked(bench) == []
    assert await bench.outbox.rows.count_documents({}) == 1
    gate.refuse = lambda m: None
    await drain(relay)
    assert await sequences(bench, silent, 2) == [1]
    await relay._close()


HOSTILE: dict[str, dict[str, Any]] = {
    "value_above_our_limit": {"value": b"x" * 3_000_000},
    "value_above_the_brokers_limit": {"value": b"x" * 1_500_000},
    "header_above_our_limit": {"headers": {"ce_causationid": b"x" * 3_000_000}},
    "header_above_the_brokers_limit": {"headers": {"ce_causationid": b"x" * 1_100_000}},
}


@on_the_real_things_alone
@pytest.mark.parametrize("hostile", HOSTILE)
async def test_a_row_that_is_too_large_for_the_broker_is_set_aside(bench: Bench, hostile: str) -> None:
    subject = new_id()
    await bench.stage((joined(subject), 1), (joined(subject), 2), *((joined(), 1) for _ in range(40)))
    row = await bench.outbox.rows.find_one({"subject": subject, "sequence": 1})
    assert row is not None
    change = HOSTILE[hostile]
    change = {**change, "headers": {**row["headers"], **change.get("headers", {})}}
    await bench.outbox.rows.update_one({"_id": row["_id"]}, {"$set": change})
    relay = bench.relay()
    await drain(relay)
    assert len(await bench.read(bench.topic, 40)) == 40
    assert await marked(bench) == [(1, "too_large"), (2, "behind")]

    await bench.outbox.rows.replace_one({"_id": row["_id"]}, {**row, "stuck": "too_large"})
    relay._aside.forget()  # or wait for a second
    await drain(relay)
    assert await sequences(bench, subject, 42) == [1, 2]
    await relay._close()


@pytest.mark.kafka
@on_the_real_things_alone
async def test_a_topic_that_is_gone_holds_back_no_other(bench: Bench, kafka_bootstrap: str) -> None:
    """Apache Kafka, because the embedded broker creates a topic that is missing."""
    dead = bench.dead_letters.topic
    relay = bench.relay()
    await stage_to(bench, dead, 1)
    await drain(relay)  # so that its client knows the topic
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    await admin.delete_topics([dead])
    await admin.close()
    await stage_to(bench, dead, 3)
    await bench.stage(*((joined(), 1) for _ in range(5)))
    await drain(relay)
    assert len(await bench.read(bench.topic, 5)) == 5
    assert await bench.outbox.rows.count_documents({"stuck": "topic_missing"}) == 3

    await create_topics(kafka_bootstrap, [TopicSpec(dead, 1, 1)])
    relay._aside.forget()
    await drain(relay)
    assert len(await bench.read(dead, 3)) == 3
    await relay._close()


@pytest.mark.kafka
@on_the_real_things_alone
async def test_a_record_that_the_topic_refuses_is_found_by_halves(bench: Bench, kafka_bootstrap: str) -> None:
    """The topic takes 20 kB at once: a batch of small records is refused too, each of them is published."""
    topic = f"{bench.topic}.small"
    await create_topics(kafka_bootstrap, [TopicSpec(topic, 1, 1, {"max.message.bytes": "20000"})])
    messages = [Message(topic, b"%d" % n, b"x" * (30_000 if n in (7, 30) else 3_000), ()) for n in range(40)]
    messages.append(Message(topic, b"7", b"later", ()))
    producer = await bench.broker.producer()
    refused = await producer.publish(messages)
    await producer.stop()
    assert refused == {7: Refusal.TOO_LARGE, 30: Refusal.TOO_LARGE, 40: Refusal.BEHIND}
    published = await bench.read(topic, 38)
    assert [r.key for r in published] == [b"%d" % n for n in range(40) if n not in (7, 30)]
