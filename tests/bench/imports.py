"""Applying an import against a bare `insert_many` of the same documents, into a collection with the same
indexes.

The members service runs in its own process, with its relay, and gets the file over HTTP, as anybody's. The
memory is that of the process, at its highest, for a file of the measured size and one a tenth of it.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator

import httpx2

from infra.local.demo.people import Names
from infra.local.ports import HOST
from services.shared.database import Collection, Database, connect, database
from tests.bench.environment import UNITS, Environment
from tests.bench.figures import Figure, Ratio
from tests.bench.ingest import Server, server
from tests.fixtures.memory import high_water

GOAL = 0.4
FLOOR = 0.2
"""Reached reliably. Every row is also an event, which is inserted, read, published and deleted meanwhile:
that takes MongoDB as long as the member, and both cores are busy."""
SECONDS = 45.0
"""Most that 100,000 rows may take to be applied."""
MEGABYTES = 50.0
"""By which memory may grow for a file ten times as long."""
BATCH = 1000


async def measure(env: Environment) -> list[Ratio]:
    rows = 100_000 if env.full else 10_000
    async with server(env) as to:
        await run(env, to, 0, rows // 10)
        before = high_water(to.pid)
        db, applying, planning = await run(env, to, rows, rows)
        after = high_water(to.pid)
        bare = await insert(db, rows)
    print(
        f"imports: {rows} rows planned in {planning:.1f} s, applied in {applying:.1f} s; "
        f"memory {before:.0f} -> {after:.0f} MB",
        file=sys.stderr,
    )
    ours = Figure(f"rows of an import of {rows:,}", rows / applying)
    limit = SECONDS * rows / 100_000
    return [
        Ratio("rows applied", ours, Figure("imports.py, insert_many", bare), GOAL, floor=FLOOR),
        Ratio(
            f"seconds to apply {rows:,} rows",
            Figure("an import", applying, "s"),
            Figure("the limit", limit, "s"),
            1.0,
            at_most=True,
        ),
        Ratio(
            "memory for a file ten times as long",
            Figure("growth", max(0.0, after - before), "MB"),
            Figure("the limit", MEGABYTES, "MB"),
            1.0,
            at_most=True,
        ),
    ]


async def run(env: Environment, to: Server, start: int, rows: int) -> tuple[Database, float, float]:
    """Import people that nobody knows; the database, the seconds of applying, and those of planning."""
    token = env.keys.mint("members:write members:read contacts:read", "*")
    headers = {"authorization": f"Bearer {token}", "content-type": "text/csv"}
    async with httpx2.AsyncClient(base_url=f"http://{HOST}:{to.port}/v1", headers=headers) as http:
        began = time.perf_counter()
        answer = await http.post("/imports", content=lines(start, rows), timeout=600)
        answer.raise_for_status()
        id_ = answer.json()["id"]
        found = await until(http, id_, "planned")
        planning = time.perf_counter() - began
        if found["plan"]["new"] != rows:
            raise RuntimeError(f"the plan of {rows} rows has {found['plan']}")
        began = time.perf_counter()
        (await http.post(f"/imports/{id_}/apply")).raise_for_status()
        found = await until(http, id_, "applied")
        applying = time.perf_counter() - began
        if found["applied"]["created"] != rows:
            raise RuntimeError(f"of {rows} rows {found['applied']}")
    client = connect(env.mongo, app_name="bench")
    return database(client, to.database), applying, planning


async def until(http: httpx2.AsyncClient, id_: str, state: str) -> dict[str, dict[str, int]]:
    deadline = time.perf_counter() + 900
    while (found := (await http.get(f"/imports/{id_}")).json())["state"] != state:
        if time.perf_counter() > deadline or found["state"] == "failed":
            raise RuntimeError(f"the import is {found['state']}: {found['reason']}")
        await asyncio.sleep(0.05)
    return dict(found)


async def lines(start: int, rows: int) -> AsyncIterator[bytes]:
    """A CSV as a district office sends it."""
    rng, names = random.Random(start), Names.read()
    yield "नाम,मोबाइल नंबर,लिंग,इकाई,जन्म वर्ष\r\n".encode()
    for first in range(start, start + rows, BATCH):
        yield "".join(
            f"{names.pick(rng, 'female')},{7_000_000_000 + n},महिला,"
            f"{UNITS[n % len(UNITS)]},{rng.randint(1950, 2006)}\r\n"
            for n in range(first, min(first + BATCH, start + rows))
        ).encode()


async def insert(db: Database, rows: int) -> float:
    """Documents a second, by `insert_many` of `BATCH` into a new collection with the indexes of members."""
    members = db["members"]
    documents = await members.find().sort("_id", -1).limit(rows).to_list(None)
    bare: Collection = db["bare"]
    for name, index in (await members.index_information()).items():
        if name != "_id_":
            options = {key: value for key, value in index.items() if key not in ("v", "key", "ns")}
            await bare.create_index(index["key"], name=name, **options)
    began = time.perf_counter()
    for first in range(0, rows, BATCH):
        await bare.insert_many(documents[first : first + BATCH])
    return rows / (time.perf_counter() - began)
