"""Jobs on a real MongoDB, and a kind whose effects show what was done, how often and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
from prometheus_client import CollectorRegistry

from services.shared.clock import SystemClock
from services.shared.database import Client, connect, database, migrate
from services.shared.identity import Identity
from services.shared.jobs import (
    MIGRATIONS,
    Advance,
    Effect,
    Job,
    JobGauges,
    JobKind,
    JobMetrics,
    Jobs,
    JobWorker,
)
from services.shared.messaging import Outbox, UnitOfWork

ANYBODY = Identity("user-1", frozenset({"jobs:write"}), "BR-GAYA")


class Desk:
    """Everything that a service with jobs has, in a database of this test alone."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.db = database(client, name)
        self.clock = SystemClock()
        self.outbox = Outbox(client, self.db, self.clock)
        self.jobs = Jobs(self.db, self.clock)
        self.registry = CollectorRegistry()
        self.metrics = JobMetrics(self.registry, ["count"])
        self.gauges = JobGauges(self.jobs, self.metrics)
        self.effects = self.db["effects"]
        self._running: list[tuple[asyncio.Event, asyncio.Task[None]]] = []

    def counting(self, *, before: Callable[[Job], Awaitable[None]] | None = None) -> JobKind:
        """A kind that counts to `input["to"]`, an effect for each number, after `before` has been awaited for
        it."""

        async def step(job: Job) -> Effect:
            n = job.cursor or 0
            if before:
                await before(job)

            async def effect(work: UnitOfWork) -> Advance:
                await self.effects.insert_one({"job": job.id, "n": n}, session=work.session)
                last = n + 1 == job.input["to"]
                return Advance(
                    n + 1,
                    1,
                    job.input["to"],
                    {"counted": 1},
                    finished=last,
                    result={"last": n} if last else None,
                )

            return effect

        return JobKind("count", step)

    async def add(self, to: int = 5, kind: str = "count") -> Job:
        return await self.jobs.add(kind, {"to": to}, ANYBODY)

    def worker(self, *kinds: JobKind, lease_seconds: float = 10, concurrency: int = 2) -> JobWorker:
        return JobWorker(
            self.jobs,
            self.outbox,
            kinds or (self.counting(),),
            self.metrics,
            lease_seconds=lease_seconds,
            concurrency=concurrency,
        )

    def start(self, worker: JobWorker) -> tuple[asyncio.Event, asyncio.Task[None]]:
        stop = asyncio.Event()
        task = asyncio.create_task(worker.run(stop))
        self._running.append((stop, task))
        return stop, task

    async def halt(self) -> None:
        for stop, _ in self._running:
            stop.set()
        tasks = [task for _, task in self._running]
        self._running.clear()
        if tasks:
            _, held = await asyncio.wait(tasks, timeout=5)  # by a gate that a failed test has not opened
            for task in held:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def job(self, id: str) -> Job:
        job = await self.jobs.get(id)
        assert job is not None
        return job

    async def until(self, id: str, *states: str, seconds: float = 20) -> Job:
        """The job once it is in one of these states."""
        deadline = asyncio.get_running_loop().time() + seconds
        while (job := await self.job(id)).state not in states:
            assert asyncio.get_running_loop().time() < deadline, f"still {job.state}"
            await asyncio.sleep(0.02)
        return job

    async def numbers(self, id: str) -> Sequence[int]:
        """The effects of a job in the order in which they were written."""
        return [row["n"] async for row in self.effects.find({"job": id}).sort("_id", 1)]

    def steps(self, outcome: str) -> float:
        labels = {"kind": "count", "outcome": outcome}
        return self.registry.get_sample_value("sangathan_job_steps_total", labels) or 0.0


@pytest.fixture
async def desk(mongo_uri: str, database_name: str) -> AsyncIterator[Desk]:
    client = connect(mongo_uri, app_name="tests")
    desk = Desk(client, database_name)
    await migrate(desk.db, (), desk.clock)
    for migration in MIGRATIONS:
        await migration.apply(desk.db)
    await desk.effects.insert_one({"job": "none"})
    yield desk
    await desk.halt()
    await client.drop_database(database_name)
    client.close()
