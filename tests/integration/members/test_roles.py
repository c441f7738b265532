"""Roles in units, their time and history, and the officers of a unit."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from infra.local.keys import Keys
from services.members.settings import MembersSettings
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.members import MemberRolesChanged
from services.shared.ids import new_id
from tests.integration.members.conftest import UNIT, Service, serving

BLOCK = UNIT.rpartition("-")[0]
DISTRICT = BLOCK.rpartition("-")[0]
ELSEWHERE = "BR-GAYA"


async def put(
    service: Service,
    member_id: str,
    role: str = "coordinator",
    unit: str = UNIT,
    caller: str = "*",
    **body: object,
) -> httpx2.Response:
    headers = service.app.auth("members:write members:read", caller, sub="chief")
    path = f"/v1/members/{member_id}/roles/{role}?unit={unit}"
    return await service.http.put(path, json=body, headers=headers)


async def take(
    service: Service, member_id: str, role: str = "coordinator", unit: str = UNIT
) -> httpx2.Response:
    return await service.http.delete(f"/v1/members/{member_id}/roles/{role}?unit={unit}")


async def roles(service: Service, member_id: str) -> Any:
    return (await service.http.get(f"/v1/members/{member_id}/roles")).json()


async def officers(
    service: Service, unit: str, caller: str = "*", **query: str | bool
) -> list[tuple[str, str, str]]:
    headers = service.app.auth("members:read", caller)
    answer = await service.http.get(f"/v1/units/{unit}/officers", params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    return [(item["member_id"], item["role"], item["unit"]) for item in answer.json()["items"]]


def held(event: Envelope[Event]) -> list[tuple[str, str]]:
    assert isinstance(event.data, MemberRolesChanged)
    return [(role.role, role.unit) for role in event.data.roles]


def after(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


async def test_roles_are_given_changed_and_taken(service: Service) -> None:
    member = await service.register()
    id_ = member["id"]
    given = await put(service, id_)
    assert (given.status_code, given.headers["etag"], given.json()["until"]) == (200, '"2"', None)
    assert (await put(service, id_)).json() == given.json(), "giving it again changes nothing"
    until = after(1000)
    assert (await put(service, id_, until=until)).json()["from"] == given.json()["from"]
    assert (await put(service, id_, "youth", DISTRICT)).status_code == 200
    no_body = await service.http.put(f"/v1/members/{id_}/roles/youth?unit={DISTRICT}")
    assert (no_body.status_code, no_body.headers["etag"]) == (200, '"4"')
    assert (await take(service, id_)).status_code == 204
    assert (await take(service, id_)).status_code == 204
    assert (await take(service, id_, "spokesperson")).status_code == 204

    told = await roles(service, id_)
    assert [(item["role"], item["unit"]) for item in told["items"]] == [("youth", DISTRICT)]
    assert [(each["role"], each["change"], each["actor"]) for each in told["history"]] == [
        ("coordinator", "given", "chief"),
        ("coordinator", "changed", "chief"),
        ("youth", "given", "chief"),
        ("coordinator", "taken", "local"),
    ]
    shown = (await service.http.get(f"/v1/members/{id_}")).json()
    assert (shown["version"], shown["roles"]) == (5, [{"role": "youth", "unit": DISTRICT}])
    events = (await service.events(5))[1:]
    assert [held(event) for event in events] == [
        [("coordinator", UNIT)],
        [("coordinator", UNIT)],
        [("coordinator", UNIT), ("youth", DISTRICT)],
        [("youth", DISTRICT)],
    ]
    listed = (await service.http.get("/v1/members", params={"role": "youth", "unit": DISTRICT})).json()
    assert [item["id"] for item in listed["items"]] == [id_]
    assert (await service.http.get("/v1/members?role=coordinator")).json()["items"] == []


async def test_officers_are_those_who_hold_a_role_in_the_unit_now(service: Service) -> None:
    here, there, left, later, far = [(await service.register())["id"] for _ in range(5)]
    await put(service, here)
    await put(service, there, "women_wing", BLOCK)
    await put(service, left)
    await put(service, later, **{"from": after(1000)})
    await put(service, far)
    await service.http.delete(f"/v1/members/{left}")
    await service.http.post(f"/v1/members/{far}/move", json={"unit": ELSEWHERE})
    at_booth = {(here, "coordinator", UNIT), (far, "coordinator", UNIT)}
    assert set(await officers(service, UNIT)) == at_booth
    assert set(await officers(service, UNIT, caller=DISTRICT)) == at_booth - {(far, "coordinator", UNIT)}
    assert await officers(service, DISTRICT) == []
    in_block = (there, "women_wing", BLOCK)
    assert await officers(service, DISTRICT, below=True) == [in_block, *(await officers(service, UNIT))]
    assert await officers(service, DISTRICT, below=True, role="women_wing") == [in_block]
    path, pages = f"/v1/units/{DISTRICT}/officers?below=true&limit=1", []
    query: str | None = ""
    while query is not None:
        page = (await service.http.get(path + query)).json()
        pages += page["items"]
        query = f"&cursor={page['next']}" if page["next"] else None
    assert [item["member_id"] for item in pages] == [
        who for who, _, _ in await officers(service, DISTRICT, below=True)
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"until": "2020-01-01T00:00:00Z"}, 422),
        ({"from": "2030-01-02T00:00:00Z", "until": "2030-01-01T00:00:00Z"}, 422),
        ({"from": "1999-01-01T00:00:00Z"}, 422),
        ({"from": "20301126"}, 422),
        ({"since": "2030-01-02T00:00:00Z"}, 422),
        ({"until": "9999-12-31T23:59:59-14:00"}, 422),
    ],
)
async def test_a_term_that_cannot_be_is_refused(service: Service, body: dict[str, Any], status: int) -> None:
    member = await service.register()
    assert (await put(service, member["id"], **body)).status_code == status
    assert await roles(service, member["id"]) == {"items": [], "history": []}


async def test_a_role_is_known_its_unit_the_callers_and_its_holder_active(service: Service) -> None:
    member = await service.register()
    answer = await put(service, member["id"], "president")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/role")
    assert (await put(service, member["id"], unit=DISTRICT, caller=BLOCK)).status_code == 404
    assert (await put(service, member["id"], unit=ELSEWHERE, caller=ELSEWHERE)).status_code == 404
    assert (await put(service, new_id())).status_code == 404
    for n in range(32):
        assert (await put(service, member["id"], unit=f"{BLOCK}-{n}")).status_code == 200
    assert (await put(service, member["id"], unit=f"{BLOCK}-33")).status_code == 409
    await service.http.delete(f"/v1/members/{member['id']}")
    assert (await put(service, member["id"], "youth")).status_code == 409
    assert (await take(service, member["id"], unit=f"{BLOCK}-0")).status_code == 204


async def test_time_begins_and_ends_a_role_once(settings: MembersSettings, keys: Keys) -> None:
    """Two processes look after it at once."""
    async with serving(settings, keys) as one, serving(settings, keys) as other:
        member = (await one.register())["id"]
        assert (await put(one, member, **{"from": after(1), "until": after(2.5)})).status_code == 200
        assert (await put(other, member, "youth", until=after(2.5))).status_code == 200
        assert await officers(one, UNIT) == [(member, "youth", UNIT)]
        await asyncio.sleep(1.2)
        assert len(await officers(one, UNIT)) == 2, "the officers are never late"
        await asyncio.sleep(1.5)
        assert await officers(one, UNIT) == []

        async def settled() -> bool:
            return await one.db["role_terms"].count_documents({}) == 0

        await one.app.until(settled)
        assert (await one.stored(member))["roles"] == []
        told = (await roles(one, member))["history"]
        assert [each["change"] for each in told if each["role"] == "youth"] == ["given", "ended"]
        assert [each["change"] for each in told if each["role"] == "coordinator"][-1] == "ended"
        events = (await one.events((await one.stored(member))["version"]))[1:]
        assert held(events[-1]) == []
        assert [event.sequence for event in events] == list(range(2, 2 + len(events)))
        assert (await put(one, member)).status_code == 200, "an ended role can be given again"


async def test_an_ended_role_can_be_given_again_before_anybody_looked(service: Service) -> None:
    member = (await service.register())["id"]
    await put(service, member, until=after(0.3))
    await asyncio.sleep(0.4)
    assert (await put(service, member)).status_code == 200
    told = await roles(service, member)
    assert [each["change"] for each in told["history"]] == ["given", "ended", "given"]
    assert [held(event) for event in (await service.events(3))[1:]] == [[("coordinator", UNIT)]] * 2


async def test_roles_end_with_the_member(service: Service) -> None:
    """Both roles in effect and roles for later; and taking one afterwards publishes nothing."""
    member = (await service.register())["id"]
    await put(service, member)
    await put(service, member, "youth", **{"from": after(3600), "until": after(7200)})
    assert (await service.http.delete(f"/v1/members/{member}")).status_code == 204
    told = await roles(service, member)
    assert told["items"] == []
    assert [(each["change"], each["role"]) for each in told["history"][2:]] == [
        ("ended", "coordinator"),
        ("ended", "youth"),
    ]
    assert all(each["actor"] == told["history"][2]["actor"] for each in told["history"][2:])
    assert told["history"][2]["actor"]
    stored = await service.stored(member)
    assert (stored["roles"], await service.db["role_terms"].count_documents({})) == ([], 0)

    # A process of an earlier release ends none of them.
    term = {"member_id": member, "role": "coordinator", "unit": UNIT, "since": datetime.now(UTC)}
    await service.db["role_terms"].insert_one({"_id": new_id(), **term})
    kept = {"$set": {"roles": [{"role": "coordinator", "unit": UNIT}]}}
    await service.db["members"].update_one({"_id": member}, kept)
    assert (await roles(service, member))["items"] == []
    assert (await take(service, member)).status_code == 204
    assert await service.db["role_terms"].count_documents({}) == 0
    assert [event.type for event in await service.log()] == [
        "member.joined",
        "member.roles_changed",
        "member.left",
    ]


async def test_time_does_nothing_to_roles_of_who_is_no_member_any_more(service: Service) -> None:
    """A role for later may be given in the instant in which the member leaves, is merged or is erased."""
    survivor, merged, left = [(await service.register())["id"] for _ in range(3)]
    headers = service.app.auth("members:write members:read contacts:read")
    path = f"/v1/members/{survivor}/merge"
    assert (await service.http.post(path, json={"other": merged}, headers=headers)).status_code == 200
    assert (await service.http.delete(f"/v1/members/{left}")).status_code == 204
    erased = new_id()
    before = [await service.stored(each) for each in (survivor, merged, left)]
    now = datetime.now(UTC)
    for number, member in enumerate((merged, left, erased)):
        term = {"member_id": member, "role": "youth", "unit": UNIT, "since": now}
        times = {"due_at": now} if number else {"until": now, "due_at": now}
        await service.db["role_terms"].insert_one({"_id": new_id(), **term, **times})
        await service.db["role_history"].insert_one({**term, "change": "given", "at": now})
    assert (await roles(service, left))["items"] == []

    async def settled() -> bool:
        return await service.db["role_terms"].count_documents({}) == 0

    await service.app.until(settled)
    assert [await service.stored(each) for each in (survivor, merged, left)] == before
    assert [each["change"] for each in (await roles(service, left))["history"]] == ["given", "ended"]
    assert await service.db["role_history"].count_documents({"member_id": erased}) == 0
    kinds = [event.type for event in await service.log()]
    assert "member.roles_changed" not in kinds
