from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from services.shared.contracts.base import Envelope
from services.shared.database import transact
from services.shared.errors import PermanentError, TransientError
from services.shared.ids import new_id
from services.shared.messaging import (
    Broker,
    Consumer,
    Filter,
    Fuse,
    Message,
    Partition,
    Producer,
    Reading,
    RebalancedError,
    Record,
    UnitOfWork,
    encode,
    letter_id,
)
from services.shared.messaging.consuming.applier import StoppedError
from services.shared.messaging.consuming.fuse import RUN_LENGTH, FuseOpenError
from services.shared.messaging.publishing import outbox
from services.shared.runtime.supervisor import Supervisor
from tests.integration.messaging.conftest import ORIGIN, Bench, joined, on_the_real_things_alone

NULL: Any = object()
"""A header that is there and null."""


async def raw(bench: Bench, *messages: Message) -> None:
    producer = await bench.broker.producer()
    await producer.publish(messages)
    await producer.stop()


def message(event: Any = None, **changes: Any) -> Message:
    event = event or joined()
    from services.shared.clock import SystemClock

    envelope = Envelope(new_id(), 1, SystemClock().now(), ORIGIN.correlation_id, ORIGIN.traceparent, event)
    plain = encode(envelope)
    headers = {**dict(plain.headers), **changes.pop("headers", {})}
    kept: Any = tuple((k, None if v is NULL else v) for k, v in headers.items() if v is not None)
    return Message(plain.topic, changes.get("key", plain.key), changes.get("value", plain.value), kept)


async def test_every_event_is_applied_once_and_its_offsets_are_committed(bench: Bench) -> None:
    await bench.publish(*((joined(), 1) for _ in range(1200)))
    bench.run(bench.consumer())
    await bench.effects_are(1200)
    await bench.halt()

    bench.run(bench.consumer())  # the same group again: nothing is left to read
    await asyncio.sleep(1)
    assert await bench.effects.count_documents({}) == 1200
    assert len(await bench.effects.distinct("event")) == 1200


async def test_a_crash_after_the_effect_and_before_the_commit_repeats_nothing(bench: Bench) -> None:
    await bench.publish(*((joined(), 1) for _ in range(30)))
    records = await bench.read(bench.topic, 30)
    await bench.applier().apply(records)  # its offsets are never committed
    bench.run(bench.consumer())
    await asyncio.sleep(1.5)
    assert await bench.effects.count_documents({}) == 30


async def test_events_of_a_subject_are_applied_in_order(bench: Bench) -> None:
    subjects = [new_id() for _ in range(5)]
    await bench.publish(*((joined(s), n) for n in range(1, 21) for s in subjects))
    bench.run(bench.consumer())
    await bench.effects_are(100)
    for subject in subjects:
        rows = await bench.effects.find({"subject": subject}).sort("_id", 1).to_list(None)
        assert [row["sequence"] for row in rows] == list(range(1, 21))


POISON: dict[str, dict[str, Any]] = {
    "bad_json": {"value": b"{"},
    "null": {"value": b""},
    "random_bytes": {"value": bytes(range(256))},
    "deep_nesting": {"value": b"[" * 100_000},
    "too_large": {"value": b'"' + b"x" * 300_000 + b'"'},
    "wrong_shape": {"value": b'{"member_id": 7, "phone": "+919876543210"}'},
    "unknown_type": {"headers": {"ce_type": b"member.sang", "ce_source": b"/groups"}},
    "wrong_source": {"headers": {"ce_source": b"/groups"}},
    "id_in_capitals": {"headers": {"ce_id": b"01A20902-0000-7000-8000-000000000000"}},
    "id_of_a_megabyte": {"headers": {"ce_id": b"1" * 1_000_000}},
    "time_ahead": {"headers": {"ce_time": b"9999-01-01T00:00:00Z"}},
    "null_id": {"headers": {"ce_id": NULL}},
    "no_type": {"headers": {"ce_type": None}},
    "no_id": {"headers": {"ce_id": None}},
    "no_sequence": {"headers": {"ce_sequence": None}},
    "bad_sequence": {"headers": {"ce_sequence": b"-3"}},
    "huge_sequence": {"headers": {"ce_sequence": b"9" * 400}},
    "bad_time": {"headers": {"ce_time": b"yesterday"}},
    "future_specversion": {"headers": {"ce_specversion": b"2.0"}},
    "not_utf8": {"headers": {"ce_subject": b"\xff\xfe"}},
    "key_mismatch": {"key": b"somebody-else"},
    "no_key": {"key": None},
}


@pytest.mark.parametrize("poison", POISON, ids=str)
async def test_poison_is_dead_lettered_once_and_stops_nothing(bench: Bench, poison: str) -> None:
    await raw(bench, message(), message(**POISON[poison]), message())
    bench.run(bench.consumer())
    await bench.effects_are(2)

    async def buried() -> bool:
        return await bench.dead_letters.letters.count_documents({}) == 1

    await bench.until(buried)
    letter = await bench.dead_letters.letters.find_one({})
    assert letter is not None
    assert letter["value"] is None, "what does not decode may hold personal data"
    assert letter["reason"] in {
        "invalid_data",
        "unknown_type",
        "not_a_cloudevent",
        "headers_too_large",
        "wrong_source",
        "time_ahead",
        "too_large",
        "key_mismatch",
    }
    assert "9876543210" not in str(letter)

    await bench.publish()
    (copy,) = await bench.read(bench.dead_letters.topic, 1)
    headers = dict(copy.headers)
    assert headers["dlq_reason"].decode() == letter["reason"]
    assert headers["dlq_topic"].decode() == bench.topic
    assert int(headers["dlq_offset"]) == letter["offset"]


async def test_a_newer_version_beside_the_old_is_ignored(bench: Bench) -> None:
    await raw(bench, message(headers={"ce_type": b"member.joined.v2"}), message())
    bench.run(bench.consumer())
    await bench.effects_are(1)
    await asyncio.sleep(0.3)
    assert await bench.dead_letters.letters.count_documents({}) == 0


async def test_a_handler_bug_kills_only_the_event_that_triggers_it(bench: Bench) -> None:
    events = [joined() for _ in range(64)]
    bad = {events[5].member_id, events[40].member_id}

    async def handler(batch: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        if any(e.subject in bad for e in batch):
            raise KeyError("a value that must not be shown: +919876543210")
        await bench.record_effects(batch, work)

    await bench.publish(*((e, 1) for e in events))
    bench.run(bench.consumer(handler))
    await bench.effects_are(62)

    letters = await bench.dead_letters.letters.find({}).to_list(None)
    assert {letter["headers"]["ce_subject"] for letter in letters} == bad
    assert {(letter["reason"], letter["detail"]) for letter in letters} == {("handler_error", "KeyError")}
    assert all(letter["value"] for letter in letters)


async def test_a_transient_fault_is_retried_in_place(bench: Bench) -> None:
    failures = 3

    async def handler(batch: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        nonlocal failures
        await bench.record_effects(batch, work)
        if failures:
            failures -= 1
            raise TransientError("peer down")

    await bench.publish(*((joined(), 1) for _ in range(10)))
    bench.run(bench.consumer(handler))
    await bench.effects_are(10)
    assert failures == 0
    assert await bench.effects.count_documents({}) == 10
    assert await bench.dead_letters.letters.count_documents({}) == 0


async def test_a_batch_that_outlasts_its_deadline_is_halved(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a merely slow database would cause endless retries."""
    monkeypatch.setattr(outbox, "transact", partial(transact, seconds=1.0))

    async def handler(batch: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        await asyncio.sleep(0.15 * len(batch))
        await bench.record_effects(batch, work)

    await bench.publish(*((joined(), 1) for _ in range(16)))
    await bench.applier(handler).apply(await bench.read(bench.topic, 16))
    assert await bench.effects.count_documents({}) == 16
    assert await bench.dead_letters.letters.count_documents({}) == 0


async def test_a_retrying_batch_is_dropped_when_its_partitions_are_reassigned(bench: Bench) -> None:
    """The whole batch is dropped, including partitions still held; and a consumer binds its applier to its
    assignment."""
    tried = asyncio.Event()

    async def handler(batch: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        tried.set()
        raise TransientError("peer down")

    await bench.publish(*((joined(), 1) for _ in range(12)))
    records = await bench.read(bench.topic, 12)
    ours = {record.partition for record in records}
    assert len(ours) > 1
    applier = bench.applier(handler)
    applier.bind(asyncio.Event(), lambda: ours)
    applying = asyncio.create_task(applier.apply(records))
    await tried.wait()
    ours.pop()
    with pytest.raises(RebalancedError):
        await asyncio.wait_for(applying, 20)
    assert await bench.effects.count_documents({}) == 0

    consumer = bench.consumer(handler)
    bench.run(consumer)
    tried.clear()
    await asyncio.wait_for(tried.wait(), 20)
    assert consumer._consumer is not None
    assert consumer.applier._assignment == consumer._consumer.assignment


async def test_stopping_in_the_middle_of_retries_commits_nothing(bench: Bench) -> None:
    async def handler(batch: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        raise TransientError("peer down")

    await bench.publish((joined(), 1))
    records = await bench.read(bench.topic, 1)
    applier = bench.applier(handler)
    applier._stop.set()
    with pytest.raises(StoppedError):
        await applier.apply(records)
    stop, task = bench.run(bench.consumer(handler))
    await asyncio.sleep(1)
    stop.set()
    await asyncio.wait_for(task, 5)
    bench.run(bench.consumer())
    await bench.effects_are(1)


async def test_two_consumers_of_one_event_apply_it_once(bench: Bench) -> None:
    """As when a zombie and its successor hold the same records."""
    await bench.publish(*((joined(), 1) for _ in range(40)))
    records = await bench.read(bench.topic, 40)
    await asyncio.gather(*(bench.applier().apply(records) for _ in range(4)))
    assert await bench.effects.count_documents({}) == 40
    assert await bench.dead_letters.letters.count_documents({}) == 0


async def test_the_fuse_stops_consumption_and_a_reset_resumes_where_it_stopped(bench: Bench) -> None:
    broken = True

    async def handler(batch: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        if broken:
            raise ZeroDivisionError
        await bench.record_effects(batch, work)

    total = 200
    await bench.publish(*((joined(), 1) for _ in range(total)))
    consumer = bench.consumer(handler)
    bench.run(consumer)

    async def opened() -> bool:
        return bench.fuse.open

    await bench.until(opened)
    await asyncio.sleep(1)
    assert consumer.stopped_by() == "fuse open: too many dead letters"
    assert await bench.dead_letters.letters.count_documents({}) == RUN_LENGTH
    why = await bench.fuse.state()
    assert (why["open"], why["cause"], why["dead"], why["of"]) == (True, "run", RUN_LENGTH, RUN_LENGTH)

    broken = False
    await bench.fuse.reset()
    await bench.effects_are(total - RUN_LENGTH)
    letters = await bench.dead_letters.letters.find({}, {"_id": 1}).to_list(None)
    for letter in letters:
        await bench.replayer().replay_one(letter["_id"], by="test")
        await bench.replayer().replay_one(letter["_id"], by="test")
    assert await bench.effects.count_documents({}) == total
    assert len(await bench.effects.distinct("event")) == total


class Dying:
    """A broker whose first connections fail at every fetch, for good."""

    def __init__(self, broker: Broker, connections: int) -> None:
        self._broker, self.left = broker, connections

    async def producer(self) -> Producer:
        return await self._broker.producer()

    async def read(self, places: Sequence[tuple[Partition, int]]) -> Reading:
        return await self._broker.read(places)

    async def consumer(self, group: str, topics: Sequence[str]) -> Consumer:
        consumer = await self._broker.consumer(group, topics)
        if self.left:
            self.left -= 1

            async def fetch(max_records: int, timeout: float) -> list[Record]:
                raise TransientError("fetch failed: KafkaError")

            consumer.fetch = fetch  # type: ignore[method-assign]
        return consumer


async def test_a_dead_broker_connection_is_replaced(bench: Bench) -> None:
    bench.broker = dying = Dying(bench.broker, 2)
    supervisor = Supervisor({"consumer": bench.consumer().run}, bench.metrics)
    supervisor.start()
    try:
        await bench.publish((joined(), 1))
        await bench.effects_are(1, 40)
    finally:
        await supervisor.stop(5)
    assert dying.left == 0


async def test_a_fuse_that_another_process_opened_stops_this_one_too(bench: Bench) -> None:
    consumer = bench.consumer()
    bench.run(consumer)
    await bench.publish((joined(), 1))
    await bench.effects_are(1)
    other = Fuse(bench.db, bench.clock)
    await other.trip()

    async def heeded() -> bool:
        return consumer.stopped_by() is not None

    await bench.until(heeded, 5)
    await bench.publish((joined(), 1))
    await asyncio.sleep(1)
    assert await bench.effects.count_documents({}) == 1
    await other.reset()
    await bench.effects_are(2)


async def test_an_open_fuse_survives_a_restart(bench: Bench) -> None:
    await bench.fuse.trip()
    await bench.publish((joined(), 1))
    consumer = bench.consumer()
    bench.run(consumer)
    await asyncio.sleep(1)
    assert await bench.effects.count_documents({}) == 0
    assert consumer.stopped_by()


FLOOD: dict[str, dict[str, Any]] = {
    "bytes": {"value": b"\xff\xfe"},
    "forged": {"headers": {"ce_source": b"/groups"}},
    "unknown": {"headers": {"ce_type": b"member.sang", "ce_source": b"/groups"}},
}


@pytest.mark.parametrize("garbage", FLOOD)
async def test_garbage_never_opens_the_fuse_and_is_counted_apart(bench: Bench, garbage: str) -> None:
    flood = [message(**FLOOD[garbage]) for _ in range(RUN_LENGTH * 3)]
    await raw(bench, *flood, message())
    await bench.applier().apply(await bench.read(bench.topic, len(flood) + 1))
    assert not bench.fuse.open
    assert await bench.effects.count_documents({}) == 1
    letter = await bench.dead_letters.letters.find_one({})
    assert letter is not None
    buried = bench.metrics.dead_letters.buried
    assert buried.labels(letter["reason"], "foreign")._value.get() == len(flood)
    assert buried.labels("handler_error", "ours")._value.get() == 0


async def test_events_that_a_handler_refuses_are_foreign_and_open_no_fuse(bench: Bench) -> None:
    async def refusing(batch: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        for event in batch:
            work.refuse(event.id, PermanentError("sequence_leap"))

    await raw(bench, *(message() for _ in range(RUN_LENGTH * 3)))
    await bench.applier(refusing).apply(await bench.read(bench.topic, RUN_LENGTH * 3))
    assert not bench.fuse.open
    buried = bench.metrics.dead_letters.buried
    assert buried.labels("sequence_leap", "foreign")._value.get() == RUN_LENGTH * 3


async def test_garbage_between_them_does_not_hide_a_broken_handler_from_the_fuse(bench: Bench) -> None:
    async def broken(batch: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        raise ZeroDivisionError

    mixed = [message(**changes) for _ in range(RUN_LENGTH) for changes in ({}, FLOOD["bytes"])]
    await raw(bench, *mixed)
    with pytest.raises(FuseOpenError):
        await bench.applier(broken).apply(await bench.read(bench.topic, len(mixed)))


HARMLESS: dict[str, dict[str, Any]] = {
    "null": {"x-foreign": NULL},
    "not_text": {"x-foreign": b"\xff\xfe"},
    "of_a_tracer": {"b3": b"1", "uber-trace-id": b"", "ce_dataschema": b"urn:x"},
    "our_optional_one_is_null": {"ce_correlationid": NULL},
    "our_optional_ones_are_missing": {"ce_correlationid": None, "ce_traceparent": None},
}


@pytest.mark.parametrize("headers", HARMLESS)
@on_the_real_things_alone
async def test_a_header_that_is_not_ours_kills_no_event(bench: Bench, headers: str) -> None:
    await raw(bench, message(headers=HARMLESS[headers]))
    await bench.applier().apply(await bench.read(bench.topic, 1))
    assert await bench.effects.count_documents({}) == 1


@on_the_real_things_alone
async def test_a_discarded_letter_stays_so_when_the_log_is_read_again(bench: Bench) -> None:
    """Also when the inbox has forgotten it, as after a rewind of more than its retention."""

    async def broken(batch: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        raise ZeroDivisionError

    good = message()
    await raw(bench, good, message(**FLOOD["bytes"]), message(**FLOOD["forged"]))
    records = await bench.read(bench.topic, 3)
    records.sort(key=lambda record: record.key != good.key)
    await bench.applier(broken).apply(records)
    ids = [letter_id(record) for record in records]
    await bench.dead_letters.settle(ids[:2], "discarded", by="ops-1", note="a test")
    await bench.dead_letters.settle(ids[2:], "replayed", by="ops-1")
    before = await bench.dead_letters.find(Filter(), after=None, limit=9)
    await bench.db["inbox"].delete_many({})
    await bench.applier(broken).apply(records)
    assert await bench.dead_letters.find(Filter(), after=None, limit=9) == before
    bench.dead_letters._look_again_at = 0.0
    await bench.db["inbox"].delete_many({})
    await bench.applier().apply(records)  # a later release, which could apply the first
    assert await bench.effects.count_documents({}) == 0
    await bench.publish()
    assert len(await bench.read(bench.dead_letters.topic, 4, seconds=2)) == 3


async def test_the_fuse_of_an_older_release_beside_this_one_does_not_stop_it(bench: Bench) -> None:
    await bench.db["fuses"].insert_one({"_id": "consumer", "open": True, "at": bench.clock.now()})
    assert not await Fuse(bench.db, bench.clock).refresh()


async def test_half_of_the_window_opens_the_fuse_which_says_so_until_it_is_reset(bench: Bench) -> None:
    fuse = Fuse(bench.db, bench.clock, window=10)
    assert not any(fuse.count(alive=1) or fuse.count(dead=1) for _ in range(5))
    assert fuse.count(dead=1)
    await fuse.trip()
    state = await fuse.state()
    assert state.pop("since")
    assert state == {"open": True, "cause": "ratio", "dead": 6, "of": 10}
    await fuse.reset()
    state = await fuse.state()
    assert state.pop("since")
    assert state == {"open": False, "cause": None, "dead": None, "of": None}
