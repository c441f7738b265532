"""Draining `member.joined` through each service with one, two and four processes, each limited to a quarter
of a core.

A whole process fills a core, and the broker and mongod need theirs too, so on a small machine whole processes
cannot show whether more of them drain more. Quarters can: each is stopped three quarters of the time
(SIGSTOP), which resembles a machine a quarter as fast. This is a hard test for conflicting transactions,
which stay open four times as long.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from infra.local.ports import Ports
from infra.local.processes import Child
from infra.local.services import SERVICES, Surroundings, answers, replicas
from services.shared.database import Database, connect, database
from tests.bench.bed import seats, unit_rows
from tests.bench.environment import (
    Environment,
    fill,
    healthy,
    new_topics,
    process,
    timed_until,
    timed_until_true,
)
from tests.bench.processor import cpu_seconds

CONSUMERS = (1, 2, 4)
SHARE = 0.25
PERIOD = 0.02
"""Seconds of one turn: run, stop. Short against a transaction, so that a stop acts as slowness and not as a
pause."""
COUNT = 24_000
ROUNDS = 2
WINDOW = (0.2, 0.6)
"""The share of the events that is timed: from when all processes work, and those of groups have met
contention and split their batches, until, of four processes on six partitions, two run dry."""


@dataclass(frozen=True)
class Scaled:
    """`rate` in events a second; the rest per event: processor seconds of the processes and of mongod,
    aborted transactions."""

    rate: float
    processor: float
    mongod: float
    aborted: float


async def measure(env: Environment) -> Mapping[str, Mapping[int, Scaled]]:
    """Results by consuming service and number of processes: the fastest of `ROUNDS` drains, taken in turn."""
    cells = [(service, n) for service in SERVICES[1:] for n in CONSUMERS]
    drained: dict[tuple[str, int], list[Scaled]] = {cell: [] for cell in cells}
    for _ in range(ROUNDS):
        for cell in cells:
            drained[cell].append(await drain(env, *cell, COUNT))
    fastest = {cell: max(those, key=lambda scaled: scaled.rate) for cell, those in drained.items()}
    return {service: {n: fastest[service, n] for n in CONSUMERS} for service in SERVICES[1:]}


async def drain(env: Environment, service: str, processes: int, count: int) -> Scaled:
    prefix = await new_topics(env)
    client = connect(env.mongo, app_name="bench")
    db = database(client, prefix.rstrip("."))
    try:
        async with AsyncExitStack() as stack:
            children = [
                await stack.enter_async_context(started(env, prefix, service, replica))
                for replica in replicas(service, processes)
            ]
            await timed_until(partial(members, env, prefix + service), processes, time.perf_counter())
            if service == "groups":
                await db["units"].insert_many(unit_rows())
            async with slowed(children) as work:
                await fill(env, prefix, healthy(count))
                work.set()
                scaled = await timed(env, db, children, count)
                if service == "groups":
                    # The inbox's count includes uncommitted writes: the last transaction may still be open.
                    await timed_until(partial(seats, db), count, time.perf_counter(), seconds=20)
                return scaled
    finally:
        await client.drop_database(db.name)
        client.close()


@asynccontextmanager
async def started(env: Environment, prefix: str, service: str, replica: str) -> AsyncIterator[Child]:
    """The real service, including relay and API."""
    ports = Ports()
    around = Surroundings(
        {replica: (port := ports.take()), **{peer: ports.take() for peer in ("members", "groups")}},
        env.mongo,
        env.kafka,
        env.keys,
        static_members=False,
    )
    settings = {
        **around.environment(service, replica),
        "SANGATHAN_HTTP_PORT": str(port),
        "SANGATHAN_KAFKA_PREFIX": prefix,
        "SANGATHAN_MONGO_DATABASE": prefix.rstrip("."),
    }
    async with process(env, replica, "-m", f"services.{service}", variables=settings) as child:
        await timed_until_true(lambda: answers(port, "/readyz"), seconds=60)
        yield child


async def members(env: Environment, group: str) -> int:
    """The number of group members with partitions; 0 during a rebalance."""
    admin = AIOKafkaAdminClient(bootstrap_servers=env.kafka)
    await admin.start()
    try:
        [answer] = await admin.describe_consumer_groups([group])
    except GroupCoordinatorNotAvailableError:  # the cluster has no group yet
        return 0
    finally:
        await admin.close()
    [(_, _, state, _, _, present, *_)] = answer.groups
    return len(present) if state == "Stable" else 0


@asynccontextmanager
async def slowed(children: Sequence[Child]) -> AsyncIterator[asyncio.Event]:
    """Processes stopped until the event is set, then each running `SHARE` of the time, in turn as far as that
    goes."""
    work = asyncio.Event()

    async def turn(child: Child, n: int) -> None:
        child.signal(signal.SIGSTOP)
        await work.wait()
        await asyncio.sleep(PERIOD * n / len(children))
        while True:
            child.signal(signal.SIGCONT)
            await asyncio.sleep(PERIOD * SHARE)
            child.signal(signal.SIGSTOP)
            await asyncio.sleep(PERIOD * (1 - SHARE))

    turns = [asyncio.create_task(turn(child, n)) for n, child in enumerate(children)]
    try:
        await asyncio.sleep(0)
        yield work
    finally:
        for task in turns:
            task.cancel()
        await asyncio.gather(*turns, return_exceptions=True)


async def timed(env: Environment, db: Database, children: Sequence[Child], count: int) -> Scaled:
    """Raises: `TimeoutError` when some event has no inbox id in the end."""

    async def done() -> int:
        return await db["inbox"].estimated_document_count()

    async def used() -> tuple[float, ...]:
        status = await db.client.admin.command("serverStatus")
        cpu = sum(cpu_seconds(child.pid) for child in children)
        return (
            float(await done()),
            time.perf_counter(),
            cpu,
            cpu_seconds(env.mongod),
            status["transactions"]["totalAborted"],
        )

    began = time.perf_counter()
    await timed_until(done, int(count * WINDOW[0]), began)
    first = await used()
    await timed_until(done, int(count * WINDOW[1]), began)
    events, seconds, *costs = (b - a for a, b in zip(first, await used(), strict=True))
    await timed_until(done, count, began)
    return Scaled(events / seconds, *(cost / events for cost in costs))
