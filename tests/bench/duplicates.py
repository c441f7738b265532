"""The look for duplicates, against bare reads of the same documents: what finding and comparing others costs.

Members have real names, in blocks as full as those of Bihar are with a million members, so each one has many
neighbours whose names sound the same.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace

from services.members.core.domain import Member
from services.members.directory.store import MIGRATIONS as DIRECTORY
from services.members.duplicates.looking import Looking
from services.members.duplicates.store import MIGRATIONS, DuplicateStore
from services.shared.clock import SystemClock
from services.shared.database import Database
from services.shared.loops import Turn
from tests.bench.environment import UNITS, Environment
from tests.bench.figures import Figure, Ratio, best
from tests.bench.search import members, stored

PER_BLOCK = 1_000_000 // len(UNITS)
GOAL = 0.02
FLOOR = 0.015
"""Reached reliably; with a query for each member it would not be."""


async def measure(env: Environment) -> list[Ratio]:
    count = 10_000 if env.full else 4_000
    looks, reads = [], []
    async with stored(env, [*DIRECTORY, *MIGRATIONS], crowded(count)) as db:
        for _ in range(2):  # alternating, so that a noisy minute hurts both
            looks.append(Figure(f"of {count:,} changed", count / await looked_through(db)))
            reads.append(Figure("duplicates.py, find()", count / await read(db)))
        found = await db["duplicates"].count_documents({})
    print(f"duplicates: {found:,} pairs among {count:,} members", file=sys.stderr)
    return [Ratio("members looked through for duplicates", best(looks), best(reads), GOAL, floor=FLOOR)]


def crowded(count: int) -> Iterator[Member]:
    """Members of the first few blocks."""
    for n, member in enumerate(members(count)):
        yield replace(member, unit=f"{UNITS[n // PER_BLOCK]}-{n % 120}")


async def looked_through(db: Database) -> float:
    """Seconds until all members were looked at, from the first."""
    await db["duplicates_progress"].delete_many({})
    looking = Looking(DuplicateStore(db), SystemClock())
    began = time.perf_counter()
    while await looking.turn() is Turn.MORE:
        pass
    return time.perf_counter() - began


async def read(db: Database) -> float:
    """Seconds to read all members in the order in which they changed."""
    began = time.perf_counter()
    async for _ in db["members"].find({}, batch_size=100).sort("updated_at", 1):
        pass
    return time.perf_counter() - began
