"""Every block and booth of the tree is redrawn while members join, and the services that do it are killed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from infra.local.demo.api import Api
from infra.local.demo.arrivals import Arrivals
from infra.local.demo.invites import InviteLinks
from infra.local.demo.people import people
from infra.local.demo.tree import codes, read_tree
from infra.local.stack import LocalStack
from tests.journeys.test_kill import check_the_log, settled, the_log

JOINS = 500
AT_ONCE = 16
SECONDS = 120


@pytest.fixture
async def own_stack(tmp_path: Path) -> AsyncIterator[LocalStack]:
    """With 20 seats per group, so that units have several groups."""
    async with LocalStack(tmp_path, env={"groups": {"SANGATHAN_GROUP_CAPACITY": "20"}}) as stack:
        yield stack


def redrawn(tree: str) -> tuple[str, dict[str, str]]:
    """The tree with new codes for all blocks and booths, of which each two of a block are merged; and what
    has become of each old code."""
    rows = [line.split(",", 1) for line in tree.splitlines()[1:]]
    now: dict[str, str] = {}
    before: dict[str, list[str]] = {}
    lines = ["code,level,name_en,name_hi,women_target,predecessor"]
    count: Counter[str] = Counter()
    for code, rest in sorted(rows, key=lambda row: (row[0].count("-"), row[0])):
        parent, _, own = code.rpartition("-")
        if code.count("-") < 2:
            lines.append(f"{code},{rest},")
            continue
        if code.count("-") == 2:
            now[code] = f"{parent}-{own[:10]}N"
        else:
            now[code] = f"{now[parent]}-M{count[parent] // 2}"
            count[parent] += 1
        before.setdefault(now[code], []).append(code)
    rest_of = {row[0]: row[1] for row in rows}
    lines += [f"{new},{rest_of[old[0]]},{' '.join(old)}" for new, old in before.items()]
    return "\n".join(lines) + "\n", now


async def until(api: Api, service: str, path: str, done: Any) -> Any:
    deadline = asyncio.get_running_loop().time() + SECONDS
    while not done(found := await api.get(service, path)):
        assert asyncio.get_running_loop().time() < deadline, found
        await asyncio.sleep(0.02)
    return found


@pytest.mark.heavy
@pytest.mark.timeout(400)
async def test_a_redrawing_under_joins_and_kills_loses_nobody_and_welcomes_nobody_twice(
    own_stack: LocalStack,
) -> None:
    stack, csv = own_stack, {"content-type": "text/csv"}
    async with Api(stack.urls, stack.token, connections=AT_ONCE + 8) as api:
        tree = read_tree()
        await api.send("POST", "groups", "/v1/units/imports", content=tree.encode(), headers=csv)
        text, now = redrawn(tree)
        links = InviteLinks(api)
        giving = asyncio.create_task(links.keep_giving())
        arrivals = Arrivals(api)
        answered = asyncio.Semaphore(0)
        joining = asyncio.create_task(arrivals.rush(people(JOINS, codes(tree), 7), AT_ONCE, answered.release))
        for _ in range(JOINS // 4):
            await answered.acquire()

        answer = await api.send("POST", "groups", "/v1/units/comparisons", content=text.encode(), headers=csv)
        assert answer.status_code == 202, answer.text
        id_ = answer.json()["id"]
        job = await until(api, "groups", f"/v1/jobs/{id_}", lambda job: job["state"] == "succeeded")
        assert job["counts"]["moved"] + job["counts"]["merged"] == len(now)
        applying = (await api.send("POST", "groups", f"/v1/units/comparisons/{id_}/apply")).json()["id"]
        await until(api, "groups", f"/v1/jobs/{applying}", lambda job: job["progress"]["done"] > 0)
        stack.processes["groups"].kill()
        await until(api, "members", "/v1/jobs?kind=member_redrawing", lambda page: any(page["items"]))
        stack.processes["members"].kill()
        accepted = await joining
        await stack.wait_ready()
        await until(api, "groups", f"/v1/jobs/{applying}", lambda job: job["state"] == "succeeded")

        deadline = asyncio.get_running_loop().time() + SECONDS
        while old := set(await units_of(api)) & now.keys():
            assert asyncio.get_running_loop().time() < deadline, old
            await asyncio.sleep(0.5)
        lines = await settled(api, JOINS)
        giving.cancel()
        await links.give()
        lines = await settled(api, JOINS)
        assert all(line.balances for line in lines), lines
        assert [stack.processes[name].restarts for name in ("groups", "members")] == [1, 1]

        units = await units_of(api)
        live = {unit["code"] async for unit in api.pages("groups", "/v1/units")}
        assert units.keys() <= live
        assert live.isdisjoint(now)
        groups = [group async for group in api.pages("groups", "/v1/groups")]
        assert {group["unit"] for group in groups} <= live
        assert sum(group["members"] for group in groups) == JOINS
        for unit in sorted(units):
            figures = await api.get("analytics", "/v1/overview", unit=unit)
            below = sum(n for code, n in units.items() if code == unit or code.startswith(f"{unit}-"))
            assert figures["members"]["total"] == figures["groups"]["taken"] == below, unit
    log = await the_log(stack)
    check_the_log(log, {each.member_id for each in accepted})
    kinds = Counter({event.id: event.type for event in log}.values())
    assert kinds["unit.succeeded"] == len(now)
    assert kinds["group.member_removed"] == 0


async def units_of(api: Api) -> Counter[str]:
    return Counter([member["unit"] async for member in api.pages("members", "/v1/members", status="active")])
