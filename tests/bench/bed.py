"""A groups database and the topic it is drained from: made, watched, and checked once it is drained."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from infra.local.errors import LocalError
from infra.local.processes import Child
from services.groups.settings import GroupsSettings
from services.groups.store import MIGRATIONS
from services.shared.clock import SystemClock
from services.shared.contracts.members import TOPIC
from services.shared.migrations import migrate
from services.shared.mongo import Document, connect, database
from tests.bench.environment import ROOT, UNITS, Environment, fill, new_topics, process, timed_until
from tests.bench.processor import cpu_seconds

PEERS = frozenset({"quix_batch", "faust_batch"})
"""Those whose dependencies are at odds with ours: they run in a virtual environment of their own."""
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"


@dataclass(frozen=True)
class Drained:
    """`rate` in events per second of wall time; the rest per event: processor seconds of the contender's processes and of
    mongod, and transactions aborted (by write conflicts: they then run again)."""

    rate: float
    processor: float
    mongod: float
    aborted: float


class Bed:
    """One database, one topic, the units; what a measurement needs besides is put in by it."""

    def __init__(self, env: Environment, prefix: str) -> None:
        self.env, self.prefix = env, prefix
        self.settings = GroupsSettings(
            mongo_uri=env.mongo,
            mongo_database=prefix.rstrip("."),
            kafka_bootstrap=env.kafka,
            kafka_prefix=prefix,
        )
        self.made_at = SystemClock().now()
        self.client = connect(env.mongo, app_name="bench")
        self.db = database(self.client, self.settings.database)

    async def prepare(self) -> None:
        await migrate(self.db, MIGRATIONS, SystemClock())
        units: list[Document] = [
            {"_id": u, "level": "block", "parent": None, "name": {"en": u, "hi": u}, "version": 1}
            for u in UNITS
        ]
        await self.db["units"].insert_many(units)

    async def placed(self) -> int:
        return await self.db["placements"].estimated_document_count()

    async def check(self, count: int, group: str, bad: int) -> None:
        """The job was really done: the offsets are committed, and by then every member has a seat, an inbox id and events;
        and each bad record is one dead letter, with an inbox id of its own."""
        await timed_until(
            lambda: committed(self.env, self.prefix + group), count + bad, time.perf_counter(), seconds=20
        )
        seats = (
            await self.db["groups"]
            .aggregate([{"$group": {"_id": None, "n": {"$sum": "$taken"}}}])
            .to_list(None)
        )
        assert seats[0]["n"] == await self.placed(), seats
        assert await self.db["inbox"].count_documents({"at": {"$gt": self.made_at}}) == count + bad
        assert await self.db["dead_letters"].count_documents({}) == bad
        events = await self.db["outbox"].count_documents({"headers.ce_type": b"group.member_assigned"})
        assert events == count, events

    async def close(self) -> None:
        await self.client.drop_database(self.settings.database)
        self.client.close()


async def committed(env: Environment, group: str) -> int:
    """The sum of a consumer group's committed offsets."""
    admin = AIOKafkaAdminClient(bootstrap_servers=env.kafka)
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(group)
    finally:
        await admin.close()
    return sum(max(0, at.offset) for at in offsets.values())


async def members(env: Environment, group: str) -> int:
    """How many have their partitions of the group; 0 while it is being rebalanced."""
    admin = AIOKafkaAdminClient(bootstrap_servers=env.kafka)
    await admin.start()
    try:
        [answer] = await admin.describe_consumer_groups([group])
    except GroupCoordinatorNotAvailableError:  # the cluster's first group is still to come
        return 0
    finally:
        await admin.close()
    [(_, _, state, _, _, present, *_)] = answer.groups
    return len(present) if state == "Stable" else 0


async def start(env: Environment, bed: Bed, name: str, count: int, stack: AsyncExitStack) -> Sequence[Child]:
    """`count` processes of a contender."""
    python = str(PEERS_PYTHON if name in PEERS else sys.executable)
    if name in PEERS and not PEERS_PYTHON.exists():
        raise LocalError(f"{name} needs {PEERS_PYTHON.parents[1].name}, which `make bench` makes")
    return [
        await stack.enter_async_context(
            process(
                env,
                f"{name}-{n}",
                "-m",
                "tests.bench.contenders",
                name,
                variables=env.settings(bed.prefix),
                python=python,
            )
        )
        for n in range(count)
    ]


async def drain(
    env: Environment,
    name: str,
    count: int,
    *,
    processes: int = 1,
    bed: Bed | None = None,
    assigned_first: bool = False,
    poison_every: int = 0,
) -> Drained:
    """From the first placement to the last, so that starting and joining the group are not measured.

    `poison_every`: a bad record after so many good ones; none with 0.

    With `assigned_first` all processes have their partitions before there is anything to read, so that several start alike.
    """
    if bed is None:
        bed = Bed(env, await new_topics(env, TOPIC))
        await bed.prepare()
    before = await bed.placed()
    if not assigned_first:
        await fill(env, bed.prefix, count, poison_every)
    async with AsyncExitStack() as stack:
        children = await start(env, bed, name, processes, stack)
        if assigned_first:
            await timed_until(partial(members, env, bed.prefix + name), processes, time.perf_counter())
            await fill(env, bed.prefix, count)

        async def used() -> tuple[float, ...]:
            status = await bed.client.admin.command("serverStatus")
            aborted = status["transactions"]["totalAborted"]
            return sum(cpu_seconds(child.pid) for child in children), cpu_seconds(env.mongod), aborted

        await timed_until(bed.placed, before + 1, time.perf_counter())
        first, began, at_first = await bed.placed(), time.perf_counter(), await used()
        seconds = await timed_until(bed.placed, before + count, began)
        at_last = await used()
        await bed.check(count, name, bad=count // poison_every if poison_every else 0)
    await bed.close()
    events = before + count - first
    return Drained(events / seconds, *((b - a) / events for a, b in zip(at_first, at_last, strict=True)))
