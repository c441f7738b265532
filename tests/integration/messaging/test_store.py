"""Guarantees of MongoDB that messaging relies on: transactions, conflicts, unique ids, the lease; the fake
has them too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError

from services.shared.database import Collection, Document, Lease, Session, in_snapshot, transact
from services.shared.faults import FaultFamily, classify
from tests.integration.messaging.conftest import Bench

Meddle = Callable[[], Awaitable[Any]]


@pytest.fixture
async def rows(bench: Bench) -> Collection:
    """An existing collection with one row."""
    await bench.db["rows"].insert_one({"_id": "a", "n": 1})
    return bench.db["rows"]


async def with_meddling(
    bench: Bench, rows: Collection, meddle: Meddle, then: Callable[[Session], Awaitable[Any]]
) -> list[PyMongoError]:
    """Run a transaction with `meddle` after its first snapshot; the errors that `then` raised."""
    errors: list[PyMongoError] = []
    runs = 0

    async def body(session: Session) -> None:
        nonlocal runs
        runs += 1
        await rows.find_one({"_id": "a"}, session=session)
        if runs == 1:
            await meddle()
        try:
            await then(session)
        except PyMongoError as error:
            errors.append(error)
            raise

    await transact(bench.client, body)
    return errors


def conflicted(errors: list[PyMongoError]) -> bool:
    """Whether it conflicted exactly once, with the label that makes the driver repeat the transaction."""
    (error,) = errors
    return error.has_error_label("TransientTransactionError") and classify(error) is FaultFamily.TRANSIENT


async def test_values_come_back_as_bson_has_them(bench: Bench) -> None:
    moment = datetime(2026, 11, 24, 1, 2, 3, 4567, tzinfo=UTC)
    document: Document = {
        "_id": "x",
        "at": moment,
        "value": b"\xff",
        "headers": {"b": b"1", "a": b"2"},
        "many": (1,),
    }
    await bench.db["rows"].insert_one(document)
    row = await bench.db["rows"].find_one({"_id": "x"})
    assert row is not None
    assert row["at"] == moment.replace(microsecond=4000)
    assert (row["value"], row["many"]) == (b"\xff", [1])
    assert list(row["headers"].items()) == [("b", b"1"), ("a", b"2")]


async def test_reads_sort_limit_and_project(bench: Bench, rows: Collection) -> None:
    await rows.insert_many([{"_id": i, "n": n, "big": b"x"} for i, n in (("d", 2), ("c", 4), ("b", 3))])
    found = await in_snapshot(rows).find({"n": {"$gt": 1}}, {"n": 1}).sort("_id", 1).limit(2).to_list(None)
    assert found == [{"_id": "b", "n": 3}, {"_id": "c", "n": 4}]
    assert [row async for row in rows.find({"_id": {"$in": ["d"]}}, {"big": 0})] == [{"_id": "d", "n": 2}]
    assert await rows.find_one({}, {"n": 1}, sort=[("n", 1)]) == {"_id": "a", "n": 1}
    assert await rows.find_one({"_id": "e"}) is None
    assert await rows.count_documents({"n": 2}) == 1
    assert await rows.estimated_document_count() == 4
    assert sorted(await rows.distinct("n")) == [1, 2, 3, 4]


async def test_updates_upserts_and_deletes(rows: Collection) -> None:
    await rows.update_one({"_id": "a"}, {"$set": {"m": 2}})
    await rows.update_one({"_id": "absent"}, {"$set": {"m": 2}})
    await rows.update_one({"_id": "b"}, {"$set": {"m": 3}}, upsert=True)
    await rows.replace_one({"_id": "c"}, {"_id": "c", "k": 1}, upsert=True)
    await rows.replace_one({"_id": "c"}, {"_id": "c", "l": 1}, upsert=True)
    expected = [{"_id": "a", "n": 1, "m": 2}, {"_id": "b", "m": 3}, {"_id": "c", "l": 1}]
    assert await rows.find().sort("_id", 1).to_list(None) == expected
    await rows.delete_one({"_id": "a", "n": 7})
    assert await rows.count_documents({}) == 3
    await rows.delete_many({"_id": {"$in": ["a", "b", "z"]}})
    assert await rows.find().to_list(None) == [{"_id": "c", "l": 1}]


async def test_a_transaction_reads_its_snapshot_and_its_own_writes_alone(
    bench: Bench, rows: Collection
) -> None:
    async def body(session: Session) -> None:
        assert await rows.find_one({"_id": "a"}, session=session) == {"_id": "a", "n": 1}
        await rows.insert_one({"_id": "own"}, session=session)
        assert await rows.find_one({"_id": "own"}) is None
        await rows.update_one({"_id": "a"}, {"$set": {"n": 2}})
        await rows.insert_one({"_id": "later"})
        seen = await rows.find({}, session=session).sort("_id", 1).to_list(None)
        assert seen == [{"_id": "a", "n": 1}, {"_id": "own"}]

    await transact(bench.client, body)
    assert {row["_id"] async for row in rows.find()} == {"a", "own", "later"}


async def test_a_failed_transaction_leaves_nothing(bench: Bench, rows: Collection) -> None:
    async def body(session: Session) -> None:
        await rows.insert_one({"_id": "b"}, session=session)
        await rows.delete_one({"_id": "a"}, session=session)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await transact(bench.client, body)
    assert await rows.find().to_list(None) == [{"_id": "a", "n": 1}]


@pytest.mark.parametrize("change", ["update", "delete"])
async def test_a_write_to_a_document_changed_since_the_snapshot_repeats_the_transaction(
    bench: Bench, rows: Collection, change: str
) -> None:
    async def meddle() -> None:
        await rows.update_one({"_id": "a"}, {"$set": {"n": 2}})

    async def then(session: Session) -> None:
        if change == "update":
            await rows.update_one({"_id": "a"}, {"$set": {"m": 1}}, session=session)
        else:
            await rows.delete_one({"_id": "a"}, session=session)

    assert conflicted(await with_meddling(bench, rows, meddle, then))
    left = [{"_id": "a", "n": 2, "m": 1}] if change == "update" else []
    assert await rows.find().to_list(None) == left


async def test_an_insert_of_an_id_inserted_since_the_snapshot_repeats_and_finds_it(
    bench: Bench, rows: Collection
) -> None:
    async def then(session: Session) -> None:
        if await rows.find_one({"_id": "b"}, session=session) is None:
            await rows.insert_many([{"_id": "b", "n": 3}], session=session)

    assert conflicted(await with_meddling(bench, rows, lambda: rows.insert_one({"_id": "b", "n": 2}), then))
    assert await rows.find_one({"_id": "b"}) == {"_id": "b", "n": 2}


async def test_a_document_that_another_transaction_holds_is_refused_at_once(
    bench: Bench, rows: Collection
) -> None:
    """The second writer repeats until the first has ended; neither waits, neither is lost."""
    refused = asyncio.Event()
    runs = 0

    async def first(session: Session) -> None:
        await rows.update_one({"_id": "a"}, {"$set": {"first": 1}}, session=session)
        await asyncio.wait_for(refused.wait(), 5)

    async def second(session: Session) -> None:
        nonlocal runs
        runs += 1
        try:
            await rows.update_one({"_id": "a"}, {"$set": {"second": 1}}, session=session)
        except PyMongoError:
            refused.set()
            raise

    holder = asyncio.create_task(transact(bench.client, first))
    await asyncio.sleep(0.1)
    await transact(bench.client, second)
    await holder
    assert runs > 1
    assert await rows.find_one({"_id": "a"}) == {"_id": "a", "n": 1, "first": 1, "second": 1}


async def test_a_write_outside_a_transaction_waits_for_the_transaction_that_holds_its_document(
    bench: Bench, rows: Collection
) -> None:
    alone: list[asyncio.Future[Any]] = []

    async def body(session: Session) -> None:
        await rows.update_one({"_id": "a"}, {"$set": {"n": 2}}, session=session)
        if not alone:
            alone.append(asyncio.ensure_future(rows.update_one({"_id": "a"}, {"$set": {"m": 3}})))
        await asyncio.sleep(0.2)
        assert not alone[0].done()

    await transact(bench.client, body)
    await alone[0]
    assert await rows.find_one({"_id": "a"}) == {"_id": "a", "n": 2, "m": 3}


async def test_two_transactions_that_read_what_the_other_writes_both_commit(
    bench: Bench, rows: Collection
) -> None:
    """Write skew: a snapshot guards only written documents. A rule over several documents needs one that all
    write."""
    await rows.insert_one({"_id": "b", "n": 1})

    async def clear(own: str, session: Session) -> None:
        total = sum([row["n"] async for row in rows.find({}, session=session)])
        await both.wait()
        if total > 1:
            await rows.update_one({"_id": own}, {"$set": {"n": 0}}, session=session)

    both = asyncio.Barrier(2)
    await asyncio.gather(*(transact(bench.client, partial(clear, own)) for own in ("a", "b")))
    assert [row["n"] async for row in rows.find()] == [0, 0]


async def test_a_duplicate_id_is_a_race_and_ends_its_transaction(bench: Bench, rows: Collection) -> None:
    """Even if the body catches the error, the server has aborted, and the next operation makes the body
    repeat."""
    seen: list[Exception] = []

    async def body(session: Session) -> None:
        await rows.insert_one({"_id": "b"}, session=session)
        if not seen:
            try:
                await rows.insert_many([{"_id": "c"}, {"_id": "a"}], session=session)
            except BulkWriteError as error:
                seen.append(error)
        await rows.insert_one({"_id": "d"}, session=session)

    await transact(bench.client, body)
    assert [classify(error) for error in seen] == [FaultFamily.RACE]
    assert {row["_id"] async for row in rows.find()} == {"a", "b", "d"}

    async def again(session: Session) -> None:
        await rows.insert_one({"_id": "e"}, session=session)
        await rows.insert_one({"_id": "a"}, session=session)

    with pytest.raises(DuplicateKeyError):
        await transact(bench.client, again)
    assert await rows.find_one({"_id": "e"}) is None


async def test_a_duplicate_outside_a_transaction_leaves_what_came_before_it(rows: Collection) -> None:
    with pytest.raises(BulkWriteError):
        await rows.insert_many([{"_id": "b"}, {"_id": "a"}, {"_id": "c"}])
    with pytest.raises(DuplicateKeyError):
        await rows.insert_one({"_id": "b"})
    assert {row["_id"] async for row in rows.find()} == {"a", "b"}


async def test_a_lease_has_one_holder_until_it_expires_or_is_released(bench: Bench) -> None:
    first, second, third = (Lease(bench.db, "job", seconds=s) for s in (30, 0.2, 30))
    assert [await lease.hold() for lease in (first, second, third)] == [True, False, False]
    await second.release()  # holds nothing, so releases nothing
    assert not await third.hold()
    await first.release()
    assert await second.hold()
    assert not await third.hold()
    await asyncio.sleep(0.4)
    assert await third.hold()
    assert not await second.hold()


async def test_one_of_many_concurrent_claimants_gets_the_lease(bench: Bench) -> None:
    leases = [Lease(bench.db, "job", seconds=30) for _ in range(8)]
    assert sum(await asyncio.gather(*(lease.hold() for lease in leases))) == 1
