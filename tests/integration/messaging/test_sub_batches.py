"""Several processes that write the same documents: each counter is right, and a locked sub-batch is
skipped."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from services.shared.contracts.base import Envelope
from services.shared.database import Session, transact
from services.shared.messaging import UnitOfWork
from services.shared.messaging.consuming.sub_batches import LOCKED_SUB_BATCHES, number_of
from tests.integration.messaging.conftest import Bench, joined

UNITS = [f"BR-{n}" for n in range(24)]


def counting(bench: Bench) -> Any:
    """A handler that reads and writes one document of each unit, as a placement does with the unit's open
    group."""

    async def count(events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        for unit in sorted({e.data.unit for e in events}):
            n = sum(e.data.unit == unit for e in events)
            row = await bench.db["counts"].find_one({"_id": unit}, session=work.session)
            new = {"_id": unit, "n": n + (row["n"] if row else 0)}
            await bench.db["counts"].replace_one({"_id": unit}, new, upsert=True, session=work.session)

    return count


async def counts(bench: Bench) -> dict[str, int]:
    return {row["_id"]: row["n"] for row in await bench.db["counts"].find({}).to_list(None)}


async def test_concurrent_writes_of_two_processes_add_up_and_contention_is_noted(bench: Bench) -> None:
    await bench.publish(*((joined(unit=unit), 1) for _ in range(20) for unit in UNITS))
    records = await bench.read(bench.topic, 20 * len(UNITS))
    splitters = [bench.splitter(), bench.splitter()]
    # Each gets half of the log in small batches, so that they conflict.
    halves = [records[::2], records[1::2]]

    async def consume(n: int) -> None:
        applier = bench.applier(counting(bench), splitter=splitters[n])
        for start in range(0, len(halves[n]), 60):
            await applier.apply(halves[n][start : start + 60])

    await asyncio.gather(consume(0), consume(1))
    assert await counts(bench) == dict.fromkeys(UNITS, 20)
    assert any(each.contended for each in splitters)


async def test_a_batch_that_conflicts_is_split_at_once(bench: Bench) -> None:
    """It is not retried whole, since it would conflict again."""
    await bench.publish(*((joined(unit=unit), 1) for unit in UNITS))
    records = await bench.read(bench.topic, len(UNITS))
    count, sizes = counting(bench), list[int]()

    async def conflicting(events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        sizes.append(len(events))
        await bench.db["counts"].find_one({"_id": "a snapshot begins"}, session=work.session)
        if len(sizes) == 1:
            row = {"_id": events[0].data.unit, "n": 0}
            await bench.db["counts"].replace_one({"_id": row["_id"]}, row, upsert=True)
        await count(events, work)

    await bench.applier(conflicting).apply(records)
    assert sizes[0] == len(UNITS)
    assert len(sizes) > 2
    assert sum(sizes[1:]) == len(UNITS)
    assert await counts(bench) == dict.fromkeys(UNITS, 1)


async def test_a_sub_batch_that_another_process_has_locked_waits_and_the_others_do_not(bench: Bench) -> None:
    await bench.publish(*((joined(unit=unit), 1) for unit in UNITS))
    records = await bench.read(bench.topic, len(UNITS))
    splitter = bench.splitter()
    held, theirs = locked_sub_batch()

    holds, may_go = asyncio.Event(), asyncio.Event()

    async def hold(session: Session) -> None:
        await splitter.lock(held, session)
        holds.set()
        await may_go.wait()

    holder = asyncio.create_task(transact(bench.client, hold, seconds=60))
    await holds.wait()
    splitter.note_contention()
    work = asyncio.create_task(bench.applier(counting(bench), splitter=splitter).apply(records))
    async with asyncio.timeout(20):
        while len(await counts(bench)) < len(UNITS) - len(theirs):  # noqa: ASYNC110 (it is in MongoDB)
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)
    assert set(await counts(bench)) == set(UNITS) - theirs
    assert not work.done()
    may_go.set()
    await holder
    async with asyncio.timeout(20):
        await work
    assert await counts(bench) == dict.fromkeys(UNITS, 1)


def locked_sub_batch() -> tuple[str, set[str]]:
    """The name of the first unit's sub-batch, and all units in it."""
    by_unit = {unit: str(number_of(unit, LOCKED_SUB_BATCHES)) for unit in UNITS}
    held = by_unit[UNITS[0]]
    return held, {unit for unit, name in by_unit.items() if name == held}
