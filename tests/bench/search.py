"""Pages of the directory among many members, against the same pages among few: the price of size.

Members have real names in two scripts and are spread over units, genders, languages and roles as unevenly as
real ones. A page is measured with its query and decoding, without HTTP, which would hide the difference.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice

from bson.binary import Binary
from prometheus_client import CollectorRegistry

from services.members.core.domain import Member, Role
from services.members.core.metrics import MembersMetrics
from services.members.core.reading import MemberReader
from services.members.core.store import MIGRATIONS as CORE
from services.members.core.store import MemberStore, SealedContact, document_of
from services.members.directory.freshness import Freshness
from services.members.directory.service import Directory
from services.members.directory.store import MIGRATIONS, DirectoryStore, Search
from services.shared.clock import SystemClock
from services.shared.database import Database, Migration, connect, database, migrate
from services.shared.ids import new_id
from services.shared.text import words
from tests.bench.environment import UNITS, Environment, new_topics
from tests.bench.figures import Figure, Ratio, percentile
from tests.bench.size import CACHE_MB, cache
from tests.fixtures.reference import rows

GOAL = 2.0
FEW = 10_000
LIMIT = 51
"""Rows of a page of 50: one more says whether others follow."""
ROUNDS = 40
BATCH = 1000
FILTERS = (
    Search(),
    Search(gender="male"),
    Search(gender="other"),
    Search(language="hi"),
    Search(language="ur"),
    Search(platform="x"),
    Search(status="active"),
    Search(status="left"),
    Search(role="coordinator"),
)


async def measure(env: Environment) -> list[Ratio]:
    many = 1_000_000 if env.full else 50_000
    async with cache(env, CACHE_MB), filled(env, FEW) as small, filled(env, many) as large:
        pages = [await timed(each) for each in (small, large)]
        names = [await timed_names(each) for each in (small, large)]
    return [
        Ratio(
            f"p99 of {what}, of {many:,} members",
            Figure(f"of {many:,}", percentile(large_ms, 99), "ms"),
            Figure(f"search.py, of {FEW:,}", percentile(small_ms, 99), "ms"),
            GOAL,
            at_most=True,
        )
        for what, (small_ms, large_ms) in (("filtered pages", pages), ("searches by name", names))
    ]


@asynccontextmanager
async def filled(env: Environment, count: int) -> AsyncIterator[Directory]:
    """A directory of `count` members, dropped afterwards."""
    began = time.perf_counter()
    async with stored(env, MIGRATIONS, members(count)) as db:
        print(f"search: {count:,} members stored in {time.perf_counter() - began:.0f} s", file=sys.stderr)
        store, metrics = DirectoryStore(db), MembersMetrics(CollectorRegistry())
        freshness = Freshness(store, SystemClock(), metrics)
        await freshness.turn()
        # Contacts are neither sealed nor opened here.
        reader = MemberReader(MemberStore(db), None, SystemClock(), metrics)  # type: ignore[arg-type]
        yield Directory(store, reader, freshness)


@asynccontextmanager
async def stored(
    env: Environment, migrations: Sequence[Migration], people: Iterator[Member]
) -> AsyncIterator[Database]:
    """A database with these members and the collections of `migrations`, dropped afterwards."""
    name = (await new_topics(env)).rstrip(".")
    client = connect(env.mongo, app_name="bench")
    db = database(client, name)
    await migrate(db, [*CORE, *migrations], SystemClock())
    contact = Binary(b"x" * 120, 0x80)
    while batch := list(islice(people, BATCH)):
        documents = [document_of(member, SealedContact(contact, member.id)) for member in batch]
        await db["members"].insert_many(documents, ordered=False)
    yield db
    await client.drop_database(name)
    client.close()


def members(count: int) -> Iterator[Member]:
    """`count` members, one of whom registers each second."""
    rng = random.Random(count)
    given, last = rows("names_given.csv"), rows("names_last_token.csv")
    weights = [int(row["count_m"]) + int(row["count_f"]) for row in given]
    ends = [int(row["count_m"]) + int(row["count_f"]) for row in last]
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for n in range(count):
        script = rng.choice(("latin", "devanagari"))
        first, second = rng.choices(given, weights)[0], rng.choices(last, ends)[0]
        at = start + timedelta(seconds=n)
        yield Member(
            id=new_id(),
            name=f"{first[script]} {second[script]}",
            unit=f"{rng.choice(UNITS)}-{rng.randrange(120)}",
            gender=rng.choices(("male", "female", "undisclosed", "other"), (55, 40, 4.9, 0.1))[0],
            language=rng.choices(("hi", "mai", "bho", "ur"), (80, 10, 9.9, 0.1))[0],
            platforms=("x",) if rng.random() < 0.05 else (),
            roles=(Role("coordinator", "BR"),) if rng.random() < 0.002 else (),
            status="left" if rng.random() < 0.01 else "active",
            joined_at=at,
            updated_at=at,
        )


async def timed(directory: Directory) -> list[float]:
    """Milliseconds of each page: every filter, alone and in units of every level, from anywhere in the
    list."""
    rng = random.Random(1)
    took: list[float] = []
    for _ in range(ROUNDS):
        for given in FILTERS:
            district, block, booth = _units(rng)
            for root in (None, "BR", district, block, booth):
                # Ids are times of registration, so a page after half of them is one of the middle.
                search = replace(given, root=root)
                first = await _page(directory, search, None, took)
                if first:
                    await _page(directory, search, rng.choice(first), took)
    return took


async def timed_names(directory: Directory) -> list[float]:
    """Milliseconds of each search by one or two words, in one of two scripts, whole or begun."""
    rng = random.Random(2)
    given, last = rows("names_given.csv"), rows("names_last_token.csv")
    took = []
    for _ in range(ROUNDS * 10):
        script = rng.choice(("latin", "devanagari"))
        typed = rng.choice(given)[script]
        if rng.random() < 0.3:
            typed = typed[:4]
        if rng.random() < 0.5:
            typed += " " + rng.choice(last)[script]
        root = rng.choice((None, "BR", *_units(rng)))
        began = time.perf_counter()
        await directory.best(Search(root=root, words=words(typed)), LIMIT)
        took.append((time.perf_counter() - began) * 1000)
    return took


def _units(rng: random.Random) -> tuple[str, str, str]:
    block = rng.choice(UNITS)
    return block.rpartition("-")[0], block, f"{block}-{rng.randrange(120)}"


async def _page(directory: Directory, search: Search, after: str | None, took: list[float]) -> list[str]:
    began = time.perf_counter()
    page = await directory.page(search, after, LIMIT)
    took.append((time.perf_counter() - began) * 1000)
    return [record.member.id for record in page]
