"""Rosters of full chat groups: 1,024 numbers each, resolved by members and reconciled with the seats.

Members and groups run as processes of their own, and whoever registers is seated by the events, one group to
a unit. Each roster is complete; of 1,024 numbers, 24 are strangers', so that 24 of the group never came.
Against the same numbers asked of `POST /v1/members/match` alone, one call after the other: the difference is
the sealed input, the job, the seats, an observation and an event for each member, and the counts.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx2
import orjson

from infra.local.ports import HOST, Ports
from infra.local.services import Surroundings, answers, url
from services.shared.database import Document
from tests.bench.bed import Bed, seats
from tests.bench.environment import UNITS, Environment, new_topics, process, timed_until, timed_until_true
from tests.bench.figures import Figure, Ratio
from tests.bench.ingest import CONNECTIONS
from tests.bench.load import post

ENTRIES: Final = 1024
"""The seats of a WhatsApp group, and the entries of a roster."""
STRANGERS: Final = 24
CALL: Final = 1000
"""Numbers of one call of members."""
GOAL: Final = 0.15
FLOOR: Final = 0.1
SECONDS: Final = 5.0
"""Within which an admin who has sent the list of a full group is told what it shows."""


@dataclass(frozen=True)
class Services:
    """Clients of the two services, with every right."""

    members: httpx2.AsyncClient
    groups: httpx2.AsyncClient


async def measure(env: Environment) -> list[Ratio]:
    rosters = 20 if env.full else 4
    bed = Bed(env, await new_topics(env))
    await bed.prepare()
    async with running(env, bed) as to:
        await register(env, bed, to, rosters)
        groups = [row async for row in bed.db["groups"].find({}, {"unit": 1})]
        units = {row["_id"]: UNITS.index(row["unit"]) for row in groups}
        assert len(units) == rosters
        first, *others = units
        one = await reconcile(to, {first: units[first]})
        matched = await match(to, list(units.values()))
        many = await reconcile(to, {id_: units[id_] for id_ in others})
        await check(to, units)
    await bed.close()
    entries = ENTRIES * len(others)
    print(f"rosters: one of {ENTRIES:,} in {one:.2f} s, {len(others)} in {many:.2f} s", file=sys.stderr)
    ours = Figure(f"rosters.py, {len(others)} rosters", entries / many)
    alone = Figure("rosters.py, POST /v1/members/match", ENTRIES * rosters / matched)
    return [
        Ratio("entries of rosters reconciled", ours, alone, GOAL, floor=FLOOR),
        Ratio(
            f"a roster of {ENTRIES:,} numbers, from the upload to its result",
            Figure("rosters.py", one, "s"),
            Figure("the limit", SECONDS, "s"),
            1.0,
            at_most=True,
        ),
    ]


@asynccontextmanager
async def running(env: Environment, bed: Bed) -> AsyncIterator[Services]:
    ports = Ports()
    taken = {name: ports.take() for name in ("members", "groups")}
    around = Surroundings(taken, env.mongo, env.kafka, env.keys, static_members=False)
    databases = {"members": f"{bed.settings.mongo_database}_members", "groups": bed.settings.mongo_database}
    async with AsyncExitStack() as stack:
        clients = []
        for name, port in taken.items():
            variables = {
                **around.environment(name, name),
                "SANGATHAN_KAFKA_PREFIX": bed.prefix,
                "SANGATHAN_MONGO_DATABASE": databases[name],
            }
            await stack.enter_async_context(process(env, name, "-m", f"services.{name}", variables=variables))
            await timed_until_true(lambda port=port: answers(port, "/readyz"), seconds=60)  # type: ignore[misc]
            token = env.keys.mint("members:* members:match groups:*", "*")
            headers = {"authorization": f"Bearer {token}"}
            client = httpx2.AsyncClient(base_url=url(port), headers=headers, trust_env=False, timeout=60)
            clients.append(await stack.enter_async_context(client))
        yield Services(*clients)
        await bed.client.drop_database(databases["members"])


async def register(env: Environment, bed: Bed, to: Services, rosters: int) -> None:
    """A full group in each of the first units."""
    port = to.members.base_url.port
    assert port is not None
    token = env.keys.mint("members:write", "*")
    bodies = (body(n) for n in range(ENTRIES * rosters))
    load = await post(HOST, port, "/v1/members", token, bodies, connections=CONNECTIONS)
    assert set(load.statuses) == {201}, load.statuses
    began = time.perf_counter()
    await timed_until(bed.placed, ENTRIES * rosters, began)
    assert await seats(bed.db) == ENTRIES * rosters


def body(n: int) -> bytes:
    unit = UNITS[n // ENTRIES]
    return orjson.dumps(
        {"name": "सुनीता देवी", "phone": phone(n), "unit": unit, "gender": "female", "language": "hi"}
    )


def phone(n: int) -> str:
    return f"+91{7_000_000_000 + n}"


def numbers(unit: int) -> Iterator[str]:
    """The numbers on the roster of a unit's group, as a phone shows them."""
    for n in range(ENTRIES):
        at = unit * ENTRIES + n if n < ENTRIES - STRANGERS else 900_000_000 + unit * ENTRIES + n
        yield f"{phone(at)[:3]} {phone(at)[3:8]}-{phone(at)[8:]}"


async def match(to: Services, units: Sequence[int]) -> float:
    """Seconds to ask members about all numbers of these rosters."""
    began = time.perf_counter()
    for unit in units:
        asked = list(numbers(unit))
        for start in range(0, ENTRIES, CALL):
            wanted = {"unit": "BR", "phones": asked[start : start + CALL]}
            answer = await to.members.post("/v1/members/match", json=wanted)
            assert answer.status_code == 200, answer.text
    return time.perf_counter() - began


async def reconcile(to: Services, units: dict[str, int]) -> float:
    """Seconds from the first upload to the end of the last job."""
    began = time.perf_counter()
    jobs = [await upload(to, group, unit) for group, unit in units.items()]

    async def ended() -> int:
        count = 0
        for location in jobs:
            job: Document = (await to.groups.get(location)).json()
            assert job["state"] in {"waiting", "running", "succeeded"}, job
            if job["state"] != "succeeded":
                await asyncio.sleep(0.05)
                break
            count += 1
        return count

    return await timed_until(ended, len(jobs), began)


async def upload(to: Services, group: str, unit: int) -> str:
    text = "\n".join(numbers(unit)).encode()
    headers = {"content-type": "text/plain"}
    path = f"/v1/groups/{group}/roster?complete=true"
    answer = await to.groups.post(path, content=text, headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


async def check(to: Services, units: dict[str, int]) -> None:
    """Each roster has shown who is there, who never came, and how many are strangers."""
    for group in units:
        drift: dict[str, Any] = (await to.groups.get(f"/v1/groups/{group}/drift")).json()["counts"]
        found = {name: drift[name] for name in ("joined", "never_came", "strangers")}
        expected = {"joined": ENTRIES - STRANGERS, "never_came": STRANGERS, "strangers": STRANGERS}
        assert found == expected, found
