"""From a roster to drift to an invite that is sent again, through the four services; and a killed process in
the middle of a roster."""

from __future__ import annotations

from typing import Any

import pytest

from infra.local.demo.api import Api
from infra.local.demo.rosters import show_roster
from infra.local.stack import LocalStack
from services.shared.ids import new_id
from tests.fixtures.ids import new_phone
from tests.journeys.test_poison_and_stop import load_tree
from tests.journeys.test_repair import LINK, until

UNIT = "BR-ROSTER"


async def a_group(api: Api, unit: str, count: int) -> tuple[dict[str, Any], list[str]]:
    """A group with a link and so many members who were welcomed, and their numbers."""
    await load_tree(api)
    body = {"level": "district", "name": {"en": "Roster", "hi": "जिला"}}
    await api.send("PUT", "groups", f"/v1/units/{unit}", json=body)
    phones = [new_phone() for _ in range(count)]
    consent = {"purpose": "welcome", "channel": "sms", "notice": "v1", "language": "hi"}
    for phone in phones:
        person = {"name": "Asha", "phone": phone, "unit": unit, "consents": [consent]}
        answer = await api.send(
            "POST", "members", "/v1/members", json=person, headers={"Idempotency-Key": new_id()}
        )
        assert answer.status_code == 201, answer.text
    found: dict[str, Any] = {}

    async def placed() -> bool:
        items = (await api.get("groups", "/v1/groups", unit=unit))["items"]
        found.update(items[0] if items else {})
        return bool(items) and items[0]["members"] == count

    await until(placed)
    path = f"/v1/groups/{found['id']}"
    match = {"If-Match": (await api.send("GET", "groups", path)).headers["etag"]}
    answer = await api.send("PATCH", "groups", path, json={"invite_link": LINK}, headers=match)
    assert answer.status_code == 200, answer.text

    async def invited() -> bool:
        items = (await api.get("groups", f"{path}/members", state="invited", limit=500))["items"]
        return len(items) == count

    await until(invited)
    return found, phones


@pytest.mark.timeout(110)
async def test_whom_a_roster_does_not_show_is_invited_again(stack: LocalStack) -> None:
    async with Api(stack.urls, stack.token, connections=4) as api:
        group, _ = await a_group(api, UNIT, 4)
        shown = await show_roster(api, group)
        assert shown.balances, shown
        assert shown.joined == 3


@pytest.mark.heavy
@pytest.mark.timeout(170)
async def test_a_roster_goes_on_after_its_process_was_killed(own_stack: LocalStack) -> None:
    """The stack starts it again."""
    stack = own_stack
    async with Api(stack.urls, stack.token, connections=4) as api:
        group, phones = await a_group(api, "BR-KILLED", 40)
        strangers = [f"+9160{n:08}" for n in range(9000)]
        path = f"/v1/groups/{group['id']}/roster?complete=true"
        answer = await api.send(
            "POST",
            "groups",
            path,
            content="\n".join([*strangers, *phones[:30]]).encode(),
            headers={"Content-Type": "text/plain"},
        )
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = {}

        async def look(wanted: int) -> bool:
            found = await api.send("GET", "groups", answer.headers["location"])
            job.update(found.json() if found.is_success else {})
            return bool(job) and job["progress"]["done"] >= wanted

        await until(lambda: look(500))
        stack.processes["groups"].kill()

        async def done() -> bool:
            await look(0)
            return bool(job.get("state") in ("succeeded", "failed"))

        await until(done)
        assert job["state"] == "succeeded", job
        counts = (await api.get("groups", f"/v1/groups/{group['id']}/drift"))["counts"]
        assert (counts["joined"], counts["never_came"], counts["strangers"]) == (30, 10, 9000)
