"""Figures read from a tree with a million members: the slowest of a hundred answers of each kind.

The figures are stored as the projection would have left them: two years of months for 40,000 booths and
all above them, in the slots of two processes. An answer is measured with its query and its making, without
HTTP, which costs the same whatever is in the database. The baseline is the limit itself.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from itertools import islice
from typing import Any

from services.analytics.app import compose
from services.analytics.core.calendar import Interval
from services.analytics.core.core import Core
from services.analytics.core.counting import rollup
from services.analytics.core.places import Place
from services.analytics.core.store import depth
from services.analytics.figures.queries import FigureQueries
from services.analytics.figures.schemas import Metric
from services.analytics.inclusion.queries import InclusionQueries
from services.analytics.settings import AnalyticsSettings
from services.shared.clock import ManualClock
from services.shared.contracts.vocabulary import LEVELS, UnitLevel, lineage
from services.shared.database import Database, Document
from services.shared.identity import Identity
from services.shared.runtime import Runtime
from tests.bench.environment import UNITS, Environment, new_topics
from tests.bench.figures import Figure, Ratio, percentile
from tests.bench.size import CACHE_MB, cache

LIMIT_MS = 50.0
ROUNDS = 100
SLOTS = 2
MONTHS = [f"{year}-{month:02}" for year in (2025, 2026) for month in range(1, 13)]
NOW = datetime(2026, 12, 28, 12, tzinfo=UTC)
KEYS = ("joined", "invited", "assigned", "taken", "registered", "women", "seats", "disclosed", "members")
"""Each grows faster than the one before it."""
PER_BOOTH = 25
EVERYBODY = Identity("bench", frozenset(), "*")


async def measure(env: Environment) -> list[Ratio]:
    booths = 75 if env.full else 4
    async with cache(env, CACHE_MB), filled(env, booths) as core:
        asked = list(questions(core, booths))
        took: dict[str, list[float]] = {what: [] for what, _ in asked}
        for _ in range(ROUNDS):
            for what, ask in asked:
                began = time.perf_counter()
                await ask()
                took[what].append((time.perf_counter() - began) * 1000)
    members = booths * len(UNITS) * PER_BOOTH
    return [
        Ratio(
            f"p99 of {what}, {members:,} members",
            Figure(f"{ROUNDS} answers", percentile(times, 99), "ms"),
            Figure("the limit", LIMIT_MS, "ms"),
            1.0,
            at_most=True,
        )
        for what, times in took.items()
    ]


def questions(core: Core, booths: int) -> Iterator[tuple[str, Callable[[], Awaitable[Any]]]]:
    """Every kind of answer, each time about another unit."""
    rng = random.Random(1)
    figures = FigureQueries(core.store, core.coverage, core.runtime.clock)
    inclusion = InclusionQueries(core.coverage, core.runtime.clock)
    days = [date(2026, month, 15) for month in range(1, 13)]

    def unit() -> str:
        block = rng.choice(UNITS)
        district = block.rpartition("-")[0]
        return rng.choice(["BR", district, block, f"{block}-{rng.randrange(booths)}"])

    async def coverage() -> None:
        on = rng.choice([None, *days])
        root, level = rng.choice(
            [("BR", UnitLevel.BOOTH), ("BR", UnitLevel.BLOCK), (rng.choice(UNITS), UnitLevel.BOOTH)]
        )
        await figures.coverage(EVERYBODY, root, level, on, None, 51)
        await figures.summary(EVERYBODY, root, level, on)

    async def series() -> None:
        step = rng.choice(list(Interval))
        await inclusion.series(EVERYBODY, unit(), date(2025, 2, 1), date(2026, 12, 28), step)

    yield "the overview", lambda: figures.overview(EVERYBODY, unit())
    yield (
        "a time series",
        lambda: figures.timeseries(
            EVERYBODY, unit(), Metric.MEMBERS_JOINED, date(2025, 2, 1), date(2026, 12, 28), Interval.DAY
        ),
    )
    yield "coverage with its summary, on any day", coverage
    yield "the funnel, on any day", lambda: inclusion.inclusion(EVERYBODY, unit(), rng.choice(days))
    yield "the funnel of two years", series
    yield "the next units", lambda: inclusion.next(EVERYBODY, unit(), 20)


@asynccontextmanager
async def filled(env: Environment, booths: int) -> AsyncIterator[Core]:
    began = time.perf_counter()
    name = (await new_topics(env)).rstrip(".")
    settings = AnalyticsSettings(
        mongo_uri=env.mongo, mongo_database=name, kafka_bootstrap=env.kafka, jwks=str(env.keys.jwks)
    )
    core = Core(Runtime(settings, clock=ManualClock(NOW)), settings)
    service = compose(core)
    await service.migrate()
    try:
        await store_all(core.runtime.database, booths)
        print(
            f"reads: {booths} booths a block stored in {time.perf_counter() - began:.0f} s", file=sys.stderr
        )
        yield core
    finally:
        await core.runtime.client.drop_database(name)
        core.runtime.close()


async def store_all(db: Database, booths: int) -> None:
    place = Place("coverage", 1)
    leaves = [f"{block}-{n}" for block in UNITS for n in range(booths)]
    above = list(dict.fromkeys(code for block in UNITS for code in lineage(block)))
    units = [*above, *leaves]
    await insert(
        db, "units", ({"_id": u, "level": LEVELS[u.count("-")], "women_target": None, **KNOWN} for u in units)
    )
    await insert(db, place.named("facts"), ({"_id": u, "u": [target(u)]} for u in units))
    await insert(db, place.named("standing"), (standing(u) for u in units))
    await insert(db, place.named("months"), (row for u in units for row in months(u)))
    await insert(db, "counters", (counter(u, slot) for u in units for slot in range(SLOTS)))
    await insert(db, "days", (day(u, month, n) for u in above for month in MONTHS for n in range(1, 29)))


KNOWN: Document = {"upto": 1, "beyond": [], "at": {}}


def target(unit: str) -> list[Any]:
    return [1, "2025-01-01", {"target": 0.4 if unit == "BR" else None}, "event"]


def standing(unit: str) -> Document:
    figures = {"women": 9, "disclosed": 22, "registered": 9, "assigned": 7, "invited": 6, "joined": 3}
    gain = random.Random(unit).randrange(1, 40)
    common = {"reason": "follow_up", "figures": figures, "target": 0.4}
    return {
        "_id": unit,
        "roots": rollup(unit),
        "gain": gain,
        "flags": [["2025-02-01", ["units_live"]]],
        **common,
    }


def months(unit: str) -> Iterator[Document]:
    """A booth changes on a few days of some months, what is above it every day."""
    rng = random.Random(unit)
    leaf = depth(unit) == 3
    for month in rng.sample(MONTHS, 6) if leaf else MONTHS:
        days = [f"{n:02}" for n in (rng.sample(range(1, 29), 3) if leaf else range(1, 29))]
        levels = [str(n) for n in range(depth(unit), 4)]
        for slot in range(1 if leaf else SLOTS):
            change = {key: dict.fromkeys(levels, rng.randrange(1, 4) + 4 * n) for n, key in enumerate(KEYS)}
            total = {key: {at: n * len(days) for at, n in by.items()} for key, by in change.items()}
            row = {"_id": f"{unit}#{month}#{slot}", "unit": unit, "month": month}
            yield {**row, "sum": total, "days": dict.fromkeys(days, change)}


def counter(unit: str, slot: int) -> Document:
    members = {"total": 25, "by_gender": {"female": 9, "male": 13}, "by_language": {"hi": 25}}
    values = {"members": members, "groups": {"total": 1, "seats": 100, "taken": 20}}
    return {"_id": f"{unit}#{slot}", "unit": unit, "depth": depth(unit), "at": NOW, "values": values}


def day(unit: str, month: str, n: int) -> Document:
    at = f"{month}-{n:02}"
    return {"_id": f"{unit}#{at}#0", "unit": unit, "day": at, "values": {"members": {"joined": 3}}}


async def insert(db: Database, name: str, rows: Iterator[Document]) -> None:
    while batch := list(islice(rows, 2000)):
        await db[name].insert_many(batch, ordered=False)
