"""Jobs in three processes that are killed and frozen at random: each step of each job takes effect once, in
order."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest
from pymongo.errors import ExecutionTimeout

from infra.local.processes import Backoff, Child
from services.shared.clock import SystemClock
from services.shared.database import Database, connect, database, migrate
from services.shared.identity import Identity
from services.shared.jobs import MIGRATIONS, Job, JobEndedError, Jobs
from tests.chaos.conftest import SEED
from tests.chaos.faults import is_stopped
from tests.chaos.job_process import KIND, LEASE_SECONDS

JOBS, STEPS, PROCESSES = 200, 50, 3
PAUSED, CANCELLED, POISONED = 15, 15, 15
TRIED = 30
"""Jobs that are to be paused, and as many to be cancelled: on a busy machine some have ended by then."""
KILLS, FREEZES, LOST_LEASES = 8, 6, 3
MOST_FREEZES = 25
"""A process may be frozen while it has no job, or be killed before it notices that it lost one."""
REST_SECONDS = 2.0
WITHIN_SECONDS = 150.0
ASKED = Identity("chaos", frozenset(), "*")


@dataclass
class Arena:
    """Three processes at work, and what was done to them and to their jobs."""

    db: Database
    jobs: Jobs
    children: Sequence[Child]
    chance: random.Random
    killed: int = 0
    thawed: list[tuple[int, float]] = field(default_factory=list)
    """Processes that were continued after their leases were over, and when (seconds since the epoch)."""
    rested: dict[str, int] = field(default_factory=dict)
    """Jobs that were paused in the middle and made no step until they were resumed; how many they had made.
    """
    cancelled: dict[str, int] = field(default_factory=dict)
    """Jobs that were cancelled in the middle, and how many steps they had made."""

    async def numbers(self, job_id: str) -> list[int]:
        """In the order of the writes: `$natural` is that of their commits when no two overlap."""
        return [row["n"] async for row in self.db["effects"].find({"job": job_id}).sort("$natural", 1)]

    async def kill(self) -> None:
        while self.killed < KILLS:
            await asyncio.sleep(self.chance.uniform(0.5, 3))
            for child in self._awake():
                child.kill()
                self.killed += 1

    async def freeze(self) -> None:
        while len(self.thawed) < FREEZES or self.lost_after_thaw() < LOST_LEASES:
            assert len(self.thawed) < MOST_FREEZES, "no frozen process lost its lease"
            await asyncio.sleep(self.chance.uniform(0.3, 1))
            for child in self._awake():
                child.signal(signal.SIGSTOP)
                await asyncio.sleep(LEASE_SECONDS * self.chance.uniform(1.3, 2))
                assert is_stopped(child.pid)
                self.thawed.append((child.pid, time.time()))
                child.signal(signal.SIGCONT)

    def _awake(self) -> Sequence[Child]:
        """One process that has been at work for a while, or none."""
        awake = [child for child in self.children if child.uptime > 2 and not is_stopped(child.pid)]
        return [self.chance.choice(awake)] if awake else []

    async def pause(self, targets: Mapping[str, int]) -> None:
        """Each once it has made so many steps; it is resumed after a while."""
        async with asyncio.TaskGroup() as resting:
            async for job_id in self._reached(targets):
                resting.create_task(self._rest(job_id))

    async def _rest(self, job_id: str) -> None:
        try:
            paused = await _insist(self.jobs.pause, job_id)
        except JobEndedError:
            return
        await asyncio.sleep(self.chance.uniform(REST_SECONDS, 2 * REST_SECONDS))
        assert await self.jobs.get(job_id) == paused
        assert await self.numbers(job_id) == list(range(paused.done))
        await _insist(self.jobs.resume, job_id)
        self.rested[job_id] = paused.done

    async def cancel(self, targets: Mapping[str, int]) -> None:
        async with asyncio.TaskGroup() as ending:
            async for job_id in self._reached(targets):
                ending.create_task(self._cancel(job_id))

    async def _cancel(self, job_id: str) -> None:
        with suppress(JobEndedError):
            self.cancelled[job_id] = (await _insist(self.jobs.cancel, job_id)).done

    async def _reached(self, targets: Mapping[str, int]) -> AsyncIterator[str]:
        left = dict(targets)
        while left:
            async for row in self.jobs.rows.find({"_id": {"$in": list(left)}}, {"progress": 1}):
                if row["progress"]["done"] >= left[row["_id"]]:
                    del left[row["_id"]]
                    yield row["_id"]
            await asyncio.sleep(0.03)

    async def ended(self) -> None:
        deadline = time.monotonic() + WITHIN_SECONDS
        while left := await self.jobs.rows.count_documents({"finished_at": None}):
            assert time.monotonic() < deadline, f"{left} jobs have not ended"
            await asyncio.sleep(0.3)

    def lost_after_thaw(self) -> int:
        """How many frozen processes said, soon after they were continued, that a lease had been lost."""
        lines = [json.loads(line) for child in self.children for line in _lines(child.log_file)]
        lost = [
            (int(line["instance"]), datetime.fromisoformat(line["time"]).timestamp())
            for line in lines
            if line["event"] == "job.lease_lost"
        ]
        return sum(any(pid == who and at <= when < at + 10 for who, when in lost) for pid, at in self.thawed)


async def _insist(change: Callable[[str], Awaitable[Job | None]], job_id: str) -> Job:
    """Again while the job's document is locked by a process that was killed or frozen in a commit."""
    while True:
        with suppress(ExecutionTimeout):
            job = await change(job_id)
            assert job
            return job


def _lines(file: Path) -> list[str]:
    """A process that is killed may leave half a line."""
    return [line for line in file.read_text().splitlines() if line.startswith("{") and line.endswith("}")]


@pytest.fixture
async def arena(mongo_uri: str, database_name: str, tmp_path: Path) -> AsyncIterator[Arena]:
    client = connect(mongo_uri, app_name="tests")
    db, clock = database(client, database_name), SystemClock()
    await migrate(db, (), clock)
    for migration in MIGRATIONS:
        await migration.apply(db)
    await db.create_collection("effects")
    env = {**os.environ, "JOBS_MONGO_URI": mongo_uri, "JOBS_DATABASE": database_name}
    command = [sys.executable, "-m", "tests.chaos.job_process"]

    async def ready() -> bool:
        return True

    children = [
        Child(f"jobs-{n}", command, tmp_path / f"{n}.log", ready, env=env, backoff=Backoff(0.1, 0.5))
        for n in range(PROCESSES)
    ]
    async with AsyncExitStack() as running:
        for child in children:
            running.push_async_callback(child.stop)
            await child.start()
        yield Arena(db, Jobs(db, clock), children, random.Random(SEED))
    await client.drop_database(database_name)
    client.close()


@pytest.mark.timeout(200)
async def test_every_step_of_every_job_takes_effect_once_and_in_order(arena: Arena) -> None:
    chance = arena.chance
    ids = [f"job-{n:03}" for n in range(JOBS)]
    chosen = chance.sample(ids, 2 * TRIED + POISONED)
    paused = {i: chance.randint(1, STEPS // 2) for i in chosen[:TRIED]}
    cancelled = {i: chance.randint(1, STEPS // 2) for i in chosen[TRIED : 2 * TRIED]}
    poisoned = {i: chance.randrange(STEPS) for i in chosen[2 * TRIED :]}
    for i in ids:
        where = chance.choice(("step", "effect"))
        await arena.jobs.add(KIND, {"steps": STEPS, "poison": poisoned.get(i), "where": where}, ASKED, id=i)
    async with asyncio.TaskGroup() as acts:
        for act in (
            arena.kill(),
            arena.freeze(),
            arena.pause(paused),
            arena.cancel(cancelled),
            arena.ended(),
        ):
            acts.create_task(act)

    seen = sum(child.exit_codes.count(-signal.SIGKILL) for child in arena.children)
    print(f"seed {SEED}: killed {seen}, frozen {len(arena.thawed)}, leases lost {arena.lost_after_thaw()}")
    assert seen == KILLS
    assert len(arena.thawed) >= FREEZES
    assert arena.lost_after_thaw() >= LOST_LEASES
    assert len(arena.rested) >= PAUSED
    assert len(arena.cancelled) >= CANCELLED
    assert all(0 < done < STEPS for done in (*arena.rested.values(), *arena.cancelled.values()))

    states = Counter[str]()
    for i in ids:
        job = await arena.jobs.get(i)
        assert job
        states[job.state] += 1
        done = poisoned.get(i, arena.cancelled.get(i, STEPS))
        assert (job.done, job.steps, job.counts) == (done, done, {"steps": done} if done else {})
        assert await arena.numbers(i) == list(range(done))
        if i in poisoned:
            assert (job.state, job.reason, job.detail) == ("failed", "poisoned", f"step {done}")
    assert states == {
        "succeeded": JOBS - len(arena.cancelled) - POISONED,
        "cancelled": len(arena.cancelled),
        "failed": POISONED,
    }
