"""Processor time per event of the groups service, with few and with many members already in the database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import islice

from services.groups.core.domain import GroupState, PlacementState
from services.shared.contracts.vocabulary import GroupKind
from services.shared.database import Client, Collection, Document, connect
from services.shared.ids import new_id
from tests.bench.bed import Bed, Drained, drain, healthy_topic
from tests.bench.environment import UNITS, Environment, new_topics
from tests.bench.figures import Figure, Ratio

CAPACITY = 1024
CHUNK = 5_000
ROUNDS = 3
WITHIN = 1.15
CACHE_MB = 4096
"""WiredTiger's cache: a million members with their indexes fit, as they should in a deployment. The local
stack's 512 MB hold a third of them, and an event would then cost reading and evicting pages."""
LOCAL_CACHE_MB = 512
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


async def measure(env: Environment) -> list[Ratio]:
    sizes = (10_000, 100_000, 1_000_000) if env.full else (10_000, 100_000)
    async with cache(env, CACHE_MB):
        costs = {members: await cheapest(env, members) for members in sizes}
    smallest = sizes[0]
    return [
        Ratio(
            f"processor time of an event, {what}",
            Figure(f"size.py, {members:,} members", getter(costs[members]) * 1e6, "us"),
            Figure(f"size.py, {smallest:,} members", getter(costs[smallest]) * 1e6, "us"),
            WITHIN,
            at_most=True,
        )
        for what, getter in (
            ("groups", lambda d: d.processor),
            ("groups and mongod", lambda d: d.processor + d.mongod),
        )
        for members in sizes[1:]
    ]


@asynccontextmanager
async def cache(env: Environment, megabytes: int) -> AsyncIterator[None]:
    """Set mongod's cache size inside the block."""
    client: Client = connect(env.mongo, app_name="bench")

    async def resize(size: int) -> None:
        await client.admin.command("setParameter", 1, wiredTigerEngineRuntimeConfig=f"cache_size={size}M")

    await resize(megabytes)
    try:
        yield
    finally:
        await resize(LOCAL_CACHE_MB)
        client.close()


async def cheapest(env: Environment, members: int) -> Drained:
    """The drain with the least processor time, of several into databases of that size."""
    events = 10_000 if env.full else 4_000
    drained = []
    for _ in range(ROUNDS):
        bed = Bed(env, await new_topics(env))
        await bed.prepare()
        await fill_database(bed, members)
        drained.append(await drain(env, "groups", healthy_topic(events), bed=bed))
    return min(drained, key=lambda d: d.processor + d.mongod)


async def fill_database(bed: Bed, members: int) -> None:
    """Fill as if they had joined: placements, inbox rows, and groups of which each unit's last is open."""
    groups = list(_groups(members))
    await _insert(bed.db["groups"], iter(groups))
    await _insert(bed.db["placements"], (seat for group in groups for seat in _seats(group)))
    await _insert(bed.db["inbox"], ({"_id": new_id(), "at": LONG_AGO} for _ in range(members)))
    # Otherwise their checkpoint would be written, and counted, during the drain.
    await bed.client.admin.command("fsync")


async def _insert(collection: Collection, documents: Iterator[Document]) -> None:
    while chunk := list(islice(documents, CHUNK)):
        await collection.insert_many(chunk, ordered=False)


def _groups(members: int) -> Iterator[Document]:
    for place, unit in enumerate(UNITS):
        left, ordinal = members // len(UNITS) + (place < members % len(UNITS)), 1
        while left:
            taken = min(CAPACITY, left)
            yield {
                "_id": new_id(),
                "unit": unit,
                "kind": GroupKind.GENERAL.value,
                "ordinal": ordinal,
                "name": {"en": unit, "hi": unit},
                "capacity": CAPACITY,
                "taken": taken,
                "state": (GroupState.FULL if taken == CAPACITY else GroupState.OPEN).value,
                "invite_link": None,
                "version": 1,
                "created_at": LONG_AGO,
                "updated_at": LONG_AGO,
            }
            left, ordinal = left - taken, ordinal + 1


def _seats(group: Document) -> Iterator[Document]:
    for _ in range(group["taken"]):
        yield {
            "_id": new_id(),
            "member_sequence": 1,
            "sequence": 1,
            "unit": group["unit"],
            "group_id": group["_id"],
            "kind": group["kind"],
            "ordinal": group["ordinal"],
            "state": PlacementState.ASSIGNED.value,
            "since": LONG_AGO,
        }
