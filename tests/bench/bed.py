"""A groups database and the topic it is drained from: prepares, measures, and checks the result."""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient

from infra.local.errors import LocalError
from infra.local.processes import Child
from services.groups.app import build
from services.groups.settings import GroupsSettings
from services.shared.clock import SystemClock
from services.shared.database import Database, Document, connect, database
from services.shared.messaging import Message
from tests.bench.environment import ROOT, UNITS, Environment, fill, healthy, new_topics, process, timed_until
from tests.bench.processor import cpu_seconds

PEERS = frozenset({"quix_batch", "faust_batch"})
"""Contenders whose dependencies conflict with ours: they run in a separate virtual environment."""
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"


class Topic(NamedTuple):
    """Records to drain, and the expected result besides the healthy events' effects."""

    messages: Sequence[Message]
    healthy: int
    letters: int = 0
    """Records that must be dead-lettered."""
    skipped: int = 0
    """Events that must be in the inbox and change nothing."""


@dataclass(frozen=True)
class Drained:
    """`rate` in events per second of wall time; processor seconds per event of the contender's process and of
    mongod."""

    rate: float
    processor: float
    mongod: float


def unit_rows() -> list[Document]:
    """The units as the groups service stores them."""
    return [
        {"_id": u, "level": "block", "parent": None, "name": {"en": u, "hi": u}, "version": 1} for u in UNITS
    ]


GROUPS_KEYS = {"bench": base64.b64encode(bytes(96))}
"""A secret without which the groups service does not start."""


async def seats(db: Database) -> int:
    """Seats taken, over all groups."""
    rows = await db["groups"].aggregate([{"$group": {"_id": None, "n": {"$sum": "$taken"}}}]).to_list(None)
    return int(rows[0]["n"])


class Bed:
    """One database, one topic, the units; a measurement adds what else it needs."""

    def __init__(self, env: Environment, prefix: str) -> None:
        self.env, self.prefix = env, prefix
        self.settings = GroupsSettings(
            master_keys=GROUPS_KEYS,
            mongo_uri=env.mongo,
            mongo_database=prefix.rstrip("."),
            kafka_bootstrap=env.kafka,
            kafka_prefix=prefix,
        )
        self.made_at = SystemClock().now()
        self.client = connect(env.mongo, app_name="bench")
        self.db = database(self.client, self.settings.database)

    async def prepare(self) -> None:
        service = build(self.settings)
        await service.migrate()
        service.runtime.close()
        await self.db["units"].insert_many(unit_rows())

    async def placed(self) -> int:
        return await self.db["placements"].estimated_document_count()

    async def check(self, topic: Topic, group: str) -> None:
        """Check that the job was really done: offsets are committed, and by then every member has a seat, an
        inbox id and events, and each bad record is one dead letter with its own inbox id."""
        await timed_until(
            lambda: committed(self.env, self.prefix + group),
            len(topic.messages),
            time.perf_counter(),
            seconds=20,
        )
        assert await seats(self.db) == await self.placed()
        assert await self.db["dead_letters"].count_documents({}) == topic.letters
        noted = await self.db["inbox"].count_documents({"at": {"$gt": self.made_at}})
        assert noted == topic.healthy + topic.letters + topic.skipped, noted
        events = await self.db["outbox"].count_documents({"headers.ce_type": b"group.member_assigned"})
        assert events == topic.healthy, events

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


def contender(env: Environment, bed: Bed, name: str) -> AbstractAsyncContextManager[Child]:
    """The contender's process."""
    python = str(PEERS_PYTHON if name in PEERS else sys.executable)
    if name in PEERS and not PEERS_PYTHON.exists():
        raise LocalError(f"{name} needs {PEERS_PYTHON.parents[1].name}, which `make bench` makes")
    command = ("-m", "tests.bench.contenders", name)
    return process(env, name, *command, variables=env.settings(bed.prefix), python=python)


def healthy_topic(count: int) -> Topic:
    return Topic(list(healthy(count)), count)


async def drain(env: Environment, name: str, topic: Topic, *, bed: Bed | None = None) -> Drained:
    """Measure from the first placement to the last, which leaves out starting and joining the group."""
    if bed is None:
        bed = Bed(env, await new_topics(env))
        await bed.prepare()
    before = await bed.placed()
    await fill(env, bed.prefix, topic.messages)
    async with contender(env, bed, name) as child:

        def used() -> tuple[float, float]:
            return cpu_seconds(child.pid), cpu_seconds(env.mongod)

        await timed_until(bed.placed, before + 1, time.perf_counter())
        first, began, at_first = await bed.placed(), time.perf_counter(), used()
        seconds = await timed_until(bed.placed, before + topic.healthy, began)
        at_last = used()
        await bed.check(topic, name)
    await bed.close()
    events = before + topic.healthy - first
    return Drained(events / seconds, *((b - a) / events for a, b in zip(at_first, at_last, strict=True)))
