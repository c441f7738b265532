"""A placement policy is applied while people join and groups is killed again and again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.local.demo.api import Api
from infra.local.demo.arrivals import Arrivals
from infra.local.demo.people import people
from infra.local.demo.play import WOMEN
from infra.local.demo.tree import codes, read_tree
from infra.local.stack import LocalStack
from services.shared.contracts.groups import GroupMemberAssigned, GroupMemberRemoved, PolicyApplied
from tests.journeys.test_kill import the_log

BEFORE, DURING = 1300, 200
KILLS = 3
AT_ONCE = 32
URL = "/v1/placement-policy"


@pytest.mark.heavy
@pytest.mark.timeout(300)
async def test_a_policy_is_applied_under_live_joins_and_kills_and_tells_nobody_twice(tmp_path: Path) -> None:
    async with (
        LocalStack(tmp_path) as stack,
        Api(stack.urls, stack.token, connections=AT_ONCE + 8) as api,
    ):
        tree = read_tree()
        csv = {"content-type": "text/csv"}
        answer = await api.send("POST", "groups", "/v1/units/imports", content=tree.encode(), headers=csv)
        assert answer.status_code == 200, answer.text
        arrivals = Arrivals(api)
        crowd = list(people(BEFORE + DURING, codes(tree), 7))
        accepted = await arrivals.rush(crowd[:BEFORE], AT_ONCE, lambda: None)

        async def placed() -> bool:
            groups = [g async for g in api.pages("groups", "/v1/groups")]
            return bool(sum(group["members"] for group in groups) == BEFORE)

        await until(placed)

        now = await api.get("groups", URL)
        kinds = [*now["kinds"], {"kind": "women", "capacity": 50}]
        body = {
            "levels": now["levels"],
            "kinds": kinds,
            "rules": [{"id": "general", "kind": "general"}, WOMEN],
        }
        answer = await api.send("PUT", "groups", URL, json=body, headers={"If-Match": '"0"'})
        assert answer.status_code == 202, answer.text
        joining = asyncio.create_task(arrivals.rush(crowd[BEFORE:], AT_ONCE, lambda: None))
        for _ in range(KILLS):
            stack.processes["groups"].kill()
            await stack.wait_ready()
        accepted += await joining
        assert stack.processes["groups"].restarts == KILLS

        async def applied() -> bool:
            job = await api.get("groups", answer.headers["location"])
            assert job["state"] in {"waiting", "running", "succeeded"}, job
            return bool(job["state"] == "succeeded")

        await until(applied)
        wanted = sum(map(asked, crowd))
        assert wanted > 50, "too few women for the groups to overflow"

        async def seated() -> bool:
            groups = [g async for g in api.pages("groups", "/v1/groups")]
            seats: Counter[str] = Counter()
            for group in groups:
                seats[group["kind"]] += group["members"]
            return seats == {"general": BEFORE + DURING, "women": wanted}

        await until(seated)
        audit = await api.send("POST", "groups", f"{URL}/audits")

        async def audited() -> bool:
            return bool((await api.get("groups", audit.headers["location"]))["state"] == "succeeded")

        await until(audited)
        found = (await api.get("groups", audit.headers["location"]))["result"]
        assert set(found["drift"].values()) == {0}, found
        log = {e.id: e for e in await the_log(stack)}.values()
    told = Counter((e.subject, e.data.rule) for e in log if isinstance(e.data, GroupMemberAssigned))
    assert set(told.values()) == {1}
    assert told.total() == BEFORE + DURING + wanted
    assert not [e for e in log if isinstance(e.data, GroupMemberRemoved)]
    assert len([e for e in log if isinstance(e.data, PolicyApplied)]) == 1


def asked(person: Mapping[str, Any]) -> bool:
    """A woman who consents to be in a group, of a block or booth."""
    given = any(consent["purpose"] == "group" for consent in person["consents"])
    return given and person["gender"] == "female" and person["unit"].count("-") >= 2


async def until(so: Callable[[], Awaitable[bool]], seconds: float = 90) -> None:
    async with asyncio.timeout(seconds):
        while not await so():  # noqa: ASYNC110 (another process does it)
            await asyncio.sleep(0.2)
