"""Upgrades: what an old process does not know yet is set aside, and the new one beside it applies it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from services.shared.contracts.base import Envelope
from services.shared.contracts.catalogue import BY_TYPE
from services.shared.contracts.members import MemberJoined, MemberLeft
from services.shared.ids import new_id
from services.shared.loops import Turn
from services.shared.messaging import (
    Applier,
    BatchConsumer,
    Filter,
    Partition,
    Reading,
    Record,
    SetAside,
    Subscriptions,
    UnitOfWork,
)
from services.shared.messaging.consuming.decoding import DecodedRecord
from services.shared.messaging.consuming.fuse import RUN_LENGTH
from services.shared.messaging.dead_letters import set_aside
from services.shared.messaging.kafka import client
from tests.integration.messaging.conftest import Bench, joined, on_the_real_things_alone
from tests.integration.messaging.test_consumer import message, raw

pytestmark = on_the_real_things_alone
SET_ASIDE, DEAD = Filter(state="set_aside"), Filter(state="dead")
NEW = "member.left"
"""The type that the old release does not know yet."""


@pytest.fixture(autouse=True)
def one_topic(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemberLeft, "topic", bench.topic)


def left() -> MemberLeft:
    return MemberLeft(member_id=new_id(), unit="BR")


def old(applier: Applier, patch: pytest.MonkeyPatch) -> Applier:
    """Give the applier the catalogue of a release that does not know `NEW`."""
    read = applier._decode

    def reading(record: Record, *rest: Any) -> DecodedRecord | None:
        with patch.context() as older:
            older.delitem(BY_TYPE, NEW)
            return read(record, *rest)

    patch.setattr(applier, "_decode", reading)
    return applier


def knowing(bench: Bench, consumer: BatchConsumer) -> BatchConsumer:
    consumer.applier._handlers = {MemberJoined: bench.record_effects, MemberLeft: bench.record_effects}
    return consumer


def upgrade(bench: Bench, handler: Any = None, *, subscribed: bool = True) -> SetAside:
    replayer = bench.replayer()
    handlers: Subscriptions = {MemberJoined: bench.record_effects}
    replayer._handlers = {**handlers, MemberLeft: handler or bench.record_effects} if subscribed else handlers
    return SetAside(replayer, bench.dead_letters, bench.outbox, bench.metrics)


async def states(bench: Bench) -> list[tuple[str, str, str | None]]:
    rows = await bench.dead_letters.letters.find({}).sort("offset", 1).to_list(None)
    return [(row["state"], row["reason"], row.get("note")) for row in rows]


async def kept_by_the_old(bench: Bench, patch: pytest.MonkeyPatch, *messages: Any) -> list[Record]:
    """Publish, and let a process of the old release apply it."""
    await raw(bench, *messages)
    records = await bench.read(bench.topic, len(messages))
    await old(bench.applier(), patch).apply(records)
    return records


@pytest.mark.timeout(120)
async def test_old_and_new_processes_side_by_side_apply_new_types_once_and_open_no_fuse(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, newer = bench.consumer(), knowing(bench, bench.consumer())
    old(older.applier, monkeypatch)
    bench.run(older)
    bench.run(newer)

    async def both_at_work() -> bool:
        return all(c._consumer is not None and c._consumer.assignment() for c in (older, newer))

    await bench.until(both_at_work)
    total = 2 * RUN_LENGTH
    for _ in range(4):
        for event in (left, joined):
            await raw(bench, *(message(event()) for _ in range(total // 4)))
    upgraded = upgrade(bench)

    async def all_applied() -> bool:
        await upgraded.turn()
        return await bench.effects.count_documents({}) == 2 * total

    await bench.until(all_applied)
    assert len(await bench.effects.distinct("event")) == 2 * total
    assert not bench.fuse.open
    assert await bench.dead_letters.count(DEAD) == 0
    replayed = await bench.dead_letters.count(Filter(state="replayed"))
    assert 0 < replayed < total, "the old process had none of the partitions, or all"
    assert await bench.dead_letters.count(SET_ASIDE) == 0
    assert await bench.outbox.rows.count_documents({}) == 0, "a copy for the dead-letter topic"


async def test_what_is_set_aside_is_no_dead_letter(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await kept_by_the_old(bench, monkeypatch, message(left()), message(left()))
    await bench.dead_letters._gauge()
    metrics = bench.metrics.dead_letters
    assert (metrics.open._value.get(), metrics.set_aside._value.get()) == (0, 2)
    assert metrics.buried.labels("unknown_type", "foreign")._value.get() == 0
    assert await bench.outbox.rows.count_documents({}) == 0
    assert await bench.dead_letters.find(Filter(), after=None, limit=9) == [], "a listing of dead letters"
    rows = await bench.dead_letters.find(SET_ASIDE, after=None, limit=9)
    assert [(row["type"], row["key"]) for row in rows] == [(NEW, None)] * 2
    [kind] = await bench.dead_letters.summary(SET_ASIDE)
    assert (kind["type"], kind["count"]) == (NEW, 2)


async def test_the_new_release_applies_what_was_set_aside_in_order_and_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = new_id()
    again = MemberLeft(member_id=subject, unit="BR")
    records = await kept_by_the_old(bench, monkeypatch, *(message(again) for _ in range(5)))
    newer = knowing(bench, bench.consumer()).applier
    await newer.apply(records[2:3])  # fetched again after a rebalance, before the offset was committed
    await asyncio.gather(*(upgrade(bench).turn() for _ in range(3)))
    rows = await bench.effects.find({}).sort("_id", 1).to_list(None)
    by_offset = [dict(record.headers)["ce_id"].decode() for record in records]
    assert [row["event"] for row in rows] == [by_offset[n] for n in (2, 0, 1, 3, 4)]
    assert {state for state, _, _ in await states(bench)} == {"replayed"}


async def test_what_the_new_release_cannot_apply_is_set_aside_no_longer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        raise KeyError("bug")

    subject = left()
    await kept_by_the_old(bench, monkeypatch, message(subject), message(subject, value=b'{"unit": 7}'))
    assert await upgrade(bench, broken).turn() is Turn.SOME
    assert [(state, reason) for state, reason, _ in await states(bench)] == [
        ("dead", "handler_error"),
        ("dead", "invalid_data"),
    ]
    assert await bench.outbox.rows.count_documents({}) == 2, "no copy for the dead-letter topic"
    assert await upgrade(bench).turn() is Turn.NOTHING


async def test_a_known_type_that_the_service_does_not_handle_is_discarded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = await kept_by_the_old(bench, monkeypatch, message(left()))
    await upgrade(bench, subscribed=False).turn()
    assert await states(bench) == [("discarded", "unknown_type", "not subscribed")]
    assert await bench.effects.count_documents({}) == 0
    # No operator decided that: a release that handles it, and reads the log from its start, applies it.
    await bench.db["inbox"].delete_many({})
    await knowing(bench, bench.consumer()).applier.apply(records)
    assert await bench.effects.count_documents({}) == 1


async def test_what_cannot_be_read_stays_set_aside_and_keeps_no_others_waiting(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its partition is gone: it becomes no dead letter, nor does it take a place at the head of
    every batch."""
    await kept_by_the_old(bench, monkeypatch, *(message(left()) for _ in range(3)))
    template = await bench.dead_letters.letters.find_one({})
    assert template is not None
    gone = [
        {**template, "_id": f"a-topic:99:{n}", "topic": "a-topic", "partition": 99, "offset": n}
        for n in range(4)
    ]
    await bench.dead_letters.letters.insert_many(gone)
    monkeypatch.setattr(set_aside, "BATCH", 2)
    monkeypatch.setattr(client, "REQUEST_MS", 1500)
    read = bench.broker.read
    asked: list[tuple[Partition, int]] = []

    async def noting(places: Sequence[tuple[Partition, int]]) -> Reading:
        asked.extend(place for place in places if place[0].number == 99)
        return await read(places)

    monkeypatch.setattr(bench.broker, "read", noting)
    upgraded = upgrade(bench)
    for _ in range(4):
        await upgraded.turn()
    assert len(asked) == 2, "a partition that does not answer is asked once in a pass, and waited for"
    assert await bench.effects.count_documents({}) == 3
    assert await bench.dead_letters.count(SET_ASIDE) == 4
    assert await bench.dead_letters.count(DEAD) == 0


UNSOUND: dict[str, dict[str, Any]] = {
    "another_source": {"headers": {"ce_source": b"/groups"}},
    "another_key": {"key": b"somebody-else"},
    "no_value": {"value": b""},
    "capitals": {"headers": {"ce_type": b"Member.Sang"}},
    "endless": {"headers": {"ce_type": b"member." + b"s" * 500}},
    "without_a_dot": {"headers": {"ce_type": b"sang"}},
    "ahead": {"headers": {"ce_time": b"9999-01-01T00:00:00Z"}},
    "large_headers": {"headers": {"x": b"x" * 5000}},
}


@pytest.mark.parametrize("changes", UNSOUND)
async def test_an_unknown_type_that_its_publisher_did_not_write_is_a_dead_letter(
    bench: Bench, changes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsound = UNSOUND[changes]
    headers = {"ce_type": b"member.sang", **unsound.get("headers", {})}
    await kept_by_the_old(bench, monkeypatch, message(**{**unsound, "headers": headers}))
    assert [(state, reason) for state, reason, _ in await states(bench)] == [("dead", "unknown_type")]


async def test_a_newer_version_is_ignored_only_from_its_own_publisher(bench: Bench) -> None:
    forged = {"ce_type": b"member.joined.v2", "ce_source": b"/groups"}
    await raw(bench, message(headers={"ce_type": b"member.joined.v2"}), message(headers=forged))
    await bench.applier().apply(await bench.read(bench.topic, 2))
    assert [(state, reason) for state, reason, _ in await states(bench)] == [("dead", "unknown_type")]
