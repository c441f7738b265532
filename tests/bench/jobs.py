"""Steps of jobs, against the same transactions in a plain loop: what keeping the job's cursor, claim and
counts costs.

A step inserts a document and stages an event, as the import of the unit tree does for each unit. Both run as
many transactions at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from services.shared.clock import SystemClock
from services.shared.database import Database, connect, create, database, migrate
from services.shared.identity import Identity
from services.shared.jobs import Advance, Effect, Job, JobKind, JobMetrics, Jobs, JobWorker
from services.shared.messaging import Origin, Outbox, UnitOfWork
from services.shared.runtime.composition import PLATFORM_MIGRATIONS
from tests.bench.environment import Environment, joined, new_topics, timed_until
from tests.bench.figures import Figure, Ratio, best

AT_ONCE = 2
GOAL = 0.5
FLOOR = 0.4
"""Reached reliably, even on a noisy machine."""


async def measure(env: Environment) -> list[Ratio]:
    rounds, each = (3, 400) if env.full else (2, 150)
    stepped, plain = [], []
    for _ in range(rounds):  # alternating, so that a noisy minute hurts both
        async with store(env) as (db, outbox):
            stepped.append(Figure(f"jobs.py, {AT_ONCE} jobs", await by_jobs(db, outbox, each)))
        async with store(env) as (db, outbox):
            plain.append(Figure(f"jobs.py, {AT_ONCE} loops", await by_loops(db, outbox, each)))
    return [Ratio("steps of jobs, one transaction each", best(stepped), best(plain), GOAL, floor=FLOOR)]


@asynccontextmanager
async def store(env: Environment) -> AsyncIterator[tuple[Database, Outbox]]:
    """An empty database with the platform's collections, dropped afterwards."""
    name = (await new_topics(env)).rstrip(".")
    client = connect(env.mongo, app_name="bench")
    db = database(client, name)
    await migrate(db, PLATFORM_MIGRATIONS, SystemClock())
    await create(db, "effects")
    yield db, Outbox(client, db, SystemClock())
    await client.drop_database(name)
    client.close()


async def by_jobs(db: Database, outbox: Outbox, each: int) -> float:
    """Steps per second of `AT_ONCE` jobs of `each` steps, from their claim to the end of the last."""
    jobs = Jobs(db, SystemClock())

    async def step(job: Job) -> Effect:
        n = job.cursor or 0

        async def effect(work: UnitOfWork) -> Advance:
            await _write(db, work, n)
            return Advance(n + 1, 1, each, finished=n + 1 == each)

        return effect

    worker = JobWorker(
        jobs,
        outbox,
        (JobKind("bench", step),),
        JobMetrics(CollectorRegistry(), ["bench"]),
        concurrency=AT_ONCE,
    )
    for _ in range(AT_ONCE):
        await jobs.add("bench", {}, Identity("bench", frozenset(), "*"))
    stop = asyncio.Event()
    began = time.perf_counter()
    running = asyncio.create_task(worker.run(stop))

    async def ended() -> int:
        return await jobs.rows.count_documents({"state": "succeeded"})

    seconds = await timed_until(ended, AT_ONCE, began)
    stop.set()
    await running
    assert await db["effects"].count_documents({}) == AT_ONCE * each
    return AT_ONCE * each / seconds


async def by_loops(db: Database, outbox: Outbox, each: int) -> float:
    """Transactions per second of `AT_ONCE` loops that write the same."""

    async def loop() -> None:
        for n in range(each):

            async def effect(work: UnitOfWork, n: int = n) -> None:
                await _write(db, work, n)

            await outbox.transact(effect)

    began = time.perf_counter()
    await asyncio.gather(*(loop() for _ in range(AT_ONCE)))
    return AT_ONCE * each / (time.perf_counter() - began)


async def _write(db: Database, work: UnitOfWork, n: int) -> None:
    await db["effects"].insert_one({"n": n}, session=work.session)
    work.stage(joined(n), 1, Origin.here())
