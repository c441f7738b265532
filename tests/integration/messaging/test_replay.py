"""Replay of dead letters: in order, once, and a letter that fails does not stop the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import CorruptRecordException

from services.shared.contracts.base import Envelope
from services.shared.contracts.members import MemberJoined
from services.shared.database import Document, migrate
from services.shared.errors import PermanentError, TransientError
from services.shared.ids import new_id
from services.shared.messaging import Filter, Partition, UnitOfWork
from services.shared.messaging.dead_letters.replay import ReplayReport
from services.shared.messaging.kafka import client, single_records
from services.shared.messaging.migrations import MIGRATIONS
from tests.integration.messaging.conftest import Bench, joined, on_the_real_things_alone
from tests.integration.messaging.test_consumer import message, raw

DEAD = Filter(state="dead")
pytestmark = on_the_real_things_alone


class Sick:
    """A handler that fails for some subjects, or for all, until it is cured."""

    def __init__(self, bench: Bench, subjects: set[str] | None = None) -> None:
        self.bench, self.subjects = bench, subjects
        self.calls = 0

    async def __call__(self, events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        self.calls += 1
        if self.subjects is None or any(e.subject in self.subjects for e in events):
            raise KeyError("bug")
        await self.bench.record_effects(events, work)


async def bury(bench: Bench, *events: tuple[MemberJoined, int]) -> Sequence[Document]:
    """Dead-letter these events and return their letters in order; the fuse is reset."""
    await bench.publish(*events)
    records = await bench.read(bench.topic, len(events))
    sick = Sick(bench)
    for start in range(0, len(records), 40):
        await bench.applier(sick).apply(records[start : start + 40])
        bench.fuse._run = 0
    return await bench.dead_letters.find(DEAD, after=None, limit=10_000)


async def replay(
    bench: Bench, handler: Any = None, wanted: Filter = DEAD, limit: int = 500
) -> list[ReplayReport]:
    """Replay page by page to the end."""
    outcomes = []
    after = None
    while letters := await bench.dead_letters.find(wanted, after=after, limit=limit):
        outcomes.append(await bench.replayer(handler).replay(wanted, letters, by="ops-1"))
        after = (letters[-1]["topic"], letters[-1]["partition"], letters[-1]["offset"])
    return outcomes


async def test_letters_are_listed_in_the_order_of_the_log(bench: Bench) -> None:
    letters = await bury(bench, *((joined(), 1) for _ in range(40)))
    places = [(x["topic"], x["partition"], x["offset"]) for x in letters]
    assert places == sorted(places)
    assert max(x["offset"] for x in letters) >= 10, "10 comes after 9, which no order of text knows"


async def test_a_listing_a_count_and_a_summary_use_the_index(bench: Bench) -> None:
    await bury(bench, (joined(), 1))
    query = Filter(type="member.joined", reason="handler_error").query(("a", 0, 0))
    order = [("topic", 1), ("partition", 1), ("offset", 1)]
    plan = await bench.dead_letters.letters.find(query).sort(order).explain()
    assert "COLLSCAN" not in str(plan["queryPlanner"]["winningPlan"])
    assert "'stage': 'SORT'" not in str(plan["queryPlanner"]["winningPlan"])


async def test_a_cured_handler_gets_each_subject_in_order_and_each_event_once(bench: Bench) -> None:
    subjects = [new_id() for _ in range(4)]
    await bury(bench, *((joined(s), n) for n in range(1, 6) for s in subjects))
    # Two operators at once, each twice.
    outcomes = await asyncio.gather(*(replay(bench, limit=7) for _ in range(4)))
    assert sum(o.replayed for each in outcomes for o in each) == 20
    for subject in subjects:
        rows = await bench.effects.find({"subject": subject}).sort("_id", 1).to_list(None)
        assert [row["sequence"] for row in rows] == [1, 2, 3, 4, 5]
    letter = await bench.dead_letters.letters.find_one({})
    assert letter is not None
    assert (letter["state"], letter["settled_by"]) == ("replayed", "ops-1")


@pytest.mark.heavy
async def test_a_replay_is_few_transactions_whatever_the_number_of_letters(bench: Bench) -> None:
    await bury(bench, *((joined(), 1) for _ in range(80)))
    well = Sick(bench, set())
    (outcome,) = await replay(bench, well)
    assert outcome.replayed == 80
    assert well.calls == 1


@pytest.mark.heavy
@pytest.mark.parametrize("limit", [1, 3, 500])
async def test_a_letter_that_fails_again_holds_back_only_its_subject(bench: Bench, limit: int) -> None:
    bad, *good = [new_id() for _ in range(5)]
    await bury(bench, *((joined(s), n) for n in range(1, 4) for s in (bad, *good)))
    outcomes = await replay(bench, Sick(bench, {bad}), limit=limit)
    assert sum(o.replayed for o in outcomes) == 12
    (failure,) = [f for o in outcomes for f in o.failed]
    assert (failure.reason, failure.detail) == ("handler_error", "KeyError")
    assert sum(o.held for o in outcomes) == 2
    first = await bench.dead_letters.get(failure.id)
    assert first is not None
    assert (first["headers"]["ce_subject"], first["headers"]["ce_sequence"]) == (bad, "1")
    assert first["attempts"] == 2

    outcomes = await replay(bench, limit=limit)
    assert sum(o.replayed for o in outcomes) == 3
    rows = await bench.effects.find({"subject": bad}).sort("_id", 1).to_list(None)
    assert [row["sequence"] for row in rows] == [1, 2, 3]


async def test_a_passing_fault_ends_the_call_and_leaves_the_letters(bench: Bench) -> None:
    await bury(bench, (joined(), 1), (joined(), 1))

    async def down(events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        raise TransientError("peer down")

    with pytest.raises(TransientError):
        await replay(bench, down)
    assert await bench.dead_letters.count(DEAD) == 2
    assert await bench.effects.count_documents({}) == 0


async def test_filters_by_type_reason_and_age(bench: Bench) -> None:
    await bury(bench, (joined(), 1), (joined(), 1))
    await raw(bench, message(headers={"ce_type": b"member.sang", "ce_source": b"/groups"}))
    records = await bench.read(bench.topic, 3)
    await bench.applier().apply([r for r in records if ("ce_type", b"member.sang") in r.headers])
    letters = bench.dead_letters
    newest = max(x["at"] for x in await letters.find(DEAD, after=None, limit=9))
    later = newest + timedelta(milliseconds=1)
    for wanted, count in (
        (DEAD, 3),
        (Filter(type="member.joined"), 2),
        (Filter(reason="unknown_type"), 1),
        (Filter(type="member.joined", reason="unknown_type"), 0),
        (Filter(since=newest), 1),
        (Filter(until=newest), 2),
        (Filter(since=later), 0),
        (Filter(until=later), 3),
        (Filter(state="replayed"), 0),
    ):
        assert await letters.count(wanted) == count, wanted
        assert len(await letters.find(wanted, after=None, limit=9)) == count, wanted
    most, least = await letters.summary(DEAD)
    assert (most["type"], most["reason"], most["count"]) == ("member.joined", "handler_error", 2)
    assert (least["type"], least["reason"], least["count"]) == ("member.sang", "unknown_type", 1)
    assert most["oldest"] <= most["newest"] <= least["newest"] == newest


async def test_a_settled_letter_cannot_be_changed(bench: Bench) -> None:
    (letter,) = await bury(bench, (joined(), 1))
    letters = bench.dead_letters
    assert await letters.settle([letter["_id"]], "discarded", by="ops-1", note="a test") == 1
    assert await letters.settle([letter["_id"]], "discarded", by="ops-2", note="again") == 0
    await bench.replayer().replay_one(letter["_id"], by="ops-3")
    kept = await letters.get(letter["_id"])
    assert kept is not None
    assert (kept["state"], kept["settled_by"], kept["note"]) == ("discarded", "ops-1", "a test")
    assert await bench.effects.count_documents({}) == 0


async def withheld(bench: Bench, *, known_later: bool, monkeypatch: pytest.MonkeyPatch) -> Document:
    """The letter of a `member.joined` that reached a release which did not know its publisher."""
    await raw(bench, message())
    (record,) = await bench.read(bench.topic, 1)
    with monkeypatch.context() as older:
        older.setattr(MemberJoined, "source", "/other")
        await bench.applier().apply([record])
    (letter,) = await bench.dead_letters.find(DEAD, after=None, limit=2)
    assert not letter["key"]
    if not known_later:
        monkeypatch.setattr(MemberJoined, "source", "/other")
    return letter


async def test_a_newer_release_replays_what_an_older_one_could_not_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = await withheld(bench, known_later=True, monkeypatch=monkeypatch)
    for _ in range(2):
        await bench.replayer().replay_one(letter["_id"], by="ops-1")
    assert await bench.effects.count_documents({}) == 1


async def test_a_withheld_event_that_was_applied_under_another_offset_has_no_second_effect(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A doubled relay published it twice; the newer release got the second copy."""
    letter = await withheld(bench, known_later=True, monkeypatch=monkeypatch)
    found = await bench.broker.read([(Partition(letter["topic"], letter["partition"]), letter["offset"])])
    await bench.applier().apply(found.records)
    (outcome,) = await replay(bench)
    assert outcome.replayed == 1
    assert await bench.effects.count_documents({}) == 1


async def test_a_withheld_value_that_still_does_not_decode_stays_dead(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = await withheld(bench, known_later=False, monkeypatch=monkeypatch)
    with pytest.raises(PermanentError, match="value_withheld"):
        await bench.replayer().replay_one(letter["_id"], by="ops-1")
    (outcome,) = await replay(bench)
    assert [f.id for f in outcome.withheld] == [letter["_id"]]
    assert (outcome.replayed, outcome.failed, outcome.held) == (0, [], 0)


async def test_a_record_with_another_hash_than_its_letter_is_not_applied(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = await withheld(bench, known_later=True, monkeypatch=monkeypatch)
    await bench.dead_letters.letters.update_one({"_id": letter["_id"]}, {"$set": {"sha256": "0" * 64}})
    with pytest.raises(PermanentError, match="value_withheld"):
        await bench.replayer().replay_one(letter["_id"], by="ops-1")
    assert await bench.effects.count_documents({}) == 0


async def test_single_records_are_read_by_partition_and_offset(bench: Bench) -> None:
    await bench.publish(*((joined(), 1) for _ in range(50)))
    records = await bench.read(bench.topic, 50)
    chosen = [records[40], records[3], records[20]]
    beyond = (chosen[0].partition, 10_000)
    found = await bench.broker.read([*((r.partition, r.offset) for r in chosen), beyond])
    assert found == (chosen, [])
    assert await bench.broker.read([]) == ([], [])


async def test_what_cannot_be_read_leaves_no_other_place_unanswered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition that is missing, and one whose records do not come or cannot be read."""
    monkeypatch.setattr(single_records, "READ_SECONDS", 0.5)
    monkeypatch.setattr(client, "REQUEST_MS", 1500)
    await bench.publish(*((joined(), 1) for _ in range(50)))
    records = await bench.read(bench.topic, 50)
    numbers = sorted({record.partition.number for record in records})
    places = [(record.partition, record.offset) for record in records]
    missing = [(Partition("a-topic", 99), 0), (Partition("a-topic", 99), 5)]
    assert await bench.broker.read([*missing, *places]) == (records, missing)

    whole = AIOKafkaConsumer.getmany
    for fault in (None, CorruptRecordException(), ValueError("a codec")):

        async def spoilt(self: Any, tp: Any, fault: Any = fault, **options: Any) -> Any:
            if tp.partition != numbers[0]:
                return await whole(self, tp, **options)
            if fault:
                raise fault
            return {}

        with monkeypatch.context() as patch:
            patch.setattr(AIOKafkaConsumer, "getmany", spoilt)
            found = await bench.broker.read(places)
        assert found.records == [r for r in records if r.partition.number != numbers[0]]
        assert found.unanswered == [place for place in places if place[0].number == numbers[0]]


async def test_a_database_of_an_earlier_release_gets_the_indexes(bench: Bench) -> None:
    migrations = bench.db["migrations"]
    await migrations.delete_many({})
    await migrations.insert_many([{"_id": f"kernel-000{n}"} for n in (1, 2, 3)])
    await bench.dead_letters.letters.drop_indexes()
    await bench.dead_letters.letters.create_index([("state", 1), ("_id", 1)])
    await migrate(bench.db, MIGRATIONS, bench.clock)
    ids = [migration.id for migration in MIGRATIONS]
    assert await migrations.count_documents({"_id": {"$in": ids}}) == len(ids)
    indexes = await bench.dead_letters.letters.index_information()
    assert "state_1__id_1" not in indexes
    assert any(name.startswith("state_1_topic_1_partition_1_offset_1") for name in indexes)
