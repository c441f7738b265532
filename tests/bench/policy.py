"""Applying a placement policy: every member is moved from the group of a block to one of the district.

The groups service runs as a process of its own, its relay publishing meanwhile. Against the rate at which the
same service seats the same number of members who join: re-placing one gives a seat up and takes another, so
it stages twice the events of a join.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from infra.local.ports import Ports
from infra.local.services import Surroundings, answers, url
from services.shared.database import Document
from services.shared.ids import new_id
from tests.bench.bed import Bed, drain, healthy_topic
from tests.bench.environment import UNITS, Environment, new_topics, process, timed_until_true
from tests.bench.figures import Figure, Ratio

GOAL = 0.2
FLOOR = 0.12
MINUTES = 2.0
FOLLOWED_MINUTES = 6.0
CHUNK = 5000
DISTRICTS = sorted({unit.rpartition("-")[0] for unit in UNITS})
POLICY = {
    "levels": ["state", "district"],
    "kinds": [{"kind": "general", "capacity": 1024}],
    "rules": [{"id": "general", "kind": "general"}],
}


async def measure(env: Environment) -> list[Ratio]:
    members, joins = (200_000, 20_000) if env.full else (10_000, 6_000)
    drained = await drain(env, "groups", healthy_topic(joins))
    applied, followed = await re_place(env, members)
    what = f"{members:,} members re-placed"
    rate = Figure("policy.py", members / applied)
    ratios = [
        Ratio(f"{what}, by the job", rate, Figure("contenders/groups.py", drained.rate), GOAL, floor=FLOOR)
    ]
    if env.full:
        for name, seconds, most in (
            ("the job", applied, MINUTES),
            ("all events published", followed, FOLLOWED_MINUTES),
        ):
            limit = Figure("the limit", most * 60, "s")
            ratios.append(
                Ratio(f"{what}: {name}", Figure("policy.py", seconds, "s"), limit, 1.0, at_most=True)
            )
    return ratios


async def re_place(env: Environment, members: int) -> tuple[float, float]:
    """Seconds until the job has ended, and until every event is published."""
    bed = Bed(env, await new_topics(env))
    await bed.prepare()
    await bed.db["units"].insert_many([_unit(code) for code in ("BR", *DISTRICTS)])
    await seated(bed, members)
    async with service(env, bed) as http:
        began = time.perf_counter()
        answer = await http.put("/v1/placement-policy", json=POLICY, headers={"if-match": '"0"'})
        assert answer.status_code == 202, answer.text
        location = answer.headers["location"]

        async def ended() -> bool:
            job: dict[str, Any] = (await http.get(location)).json()
            assert job["state"] in {"waiting", "running", "succeeded"}, job
            await asyncio.sleep(0.2)
            return bool(job["state"] == "succeeded")

        async def published() -> bool:
            await asyncio.sleep(0.2)
            return await bed.db["outbox"].estimated_document_count() == 0

        await timed_until_true(ended, seconds=MINUTES * 120)
        applied = time.perf_counter() - began
        await timed_until_true(published, seconds=FOLLOWED_MINUTES * 60)
        followed = time.perf_counter() - began
        counts = (await http.get(location)).json()["counts"]
        assert counts["moves"] == members, counts
    seats = await bed.db["groups"].find({"retired": None}, {"unit": 1, "taken": 1}).to_list(None)
    assert sum(row["taken"] for row in seats) == members
    assert {row["unit"] for row in seats} <= set(DISTRICTS)
    await bed.close()
    return applied, followed


async def seated(bed: Bed, members: int) -> None:
    """The members in the groups of their blocks, as a join leaves them."""
    groups = {unit: new_id() for unit in UNITS}
    rows: list[Document] = []
    for n in range(members):
        unit = UNITS[n % len(UNITS)]
        rows.append(
            {
                "_id": new_id(),
                "member_sequence": 1,
                "sequence": 1,
                "unit": unit,
                "group_id": groups[unit],
                "kind": "general",
                "ordinal": 1,
                "state": "assigned",
                "since": bed.made_at,
                "facts": {"at": 1, "gender": "female"} if n % 2 else {"at": 1},
            }
        )
    for at in range(0, members, CHUNK):
        await bed.db["placements"].insert_many(rows[at : at + CHUNK], ordered=False)
    taken = {unit: len(range(n, members, len(UNITS))) for n, unit in enumerate(UNITS)}
    await bed.db["groups"].insert_many([_group(bed, groups[u], u, n) for u, n in taken.items()])


@asynccontextmanager
async def service(env: Environment, bed: Bed) -> AsyncIterator[httpx2.AsyncClient]:
    """The groups service on the bed's database, and a client of it with every right."""
    port = Ports().take()
    around = Surroundings({"groups": port}, env.mongo, env.kafka, env.keys, static_members=False)
    variables = {
        **around.environment("groups", "groups"),
        "SANGATHAN_KAFKA_PREFIX": bed.prefix,
        "SANGATHAN_MONGO_DATABASE": bed.settings.mongo_database,
    }
    headers = {"authorization": f"Bearer {env.keys.mint('groups:*', '*')}"}
    async with process(env, "groups", "-m", "services.groups", variables=variables):
        await timed_until_true(lambda: answers(port, "/readyz"), seconds=60)
        async with httpx2.AsyncClient(base_url=url(port), headers=headers, trust_env=False) as http:
            yield http


def _unit(code: str) -> Document:
    parent = code.rpartition("-")[0] or None
    level = "district" if parent else "state"
    return {"_id": code, "level": level, "parent": parent, "name": {"en": code, "hi": code}, "version": 1}


def _group(bed: Bed, id_: str, unit: str, taken: int) -> Document:
    return {
        "_id": id_,
        "unit": unit,
        "kind": "general",
        "ordinal": 1,
        "name": {"en": unit, "hi": unit},
        "capacity": 1024,
        "taken": taken,
        "state": "open",
        "invite_link": None,
        "version": 1,
        "created_at": bed.made_at,
        "updated_at": bed.made_at,
    }
