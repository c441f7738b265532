"""Members and roles follow the tree: moved and merged units by a job, split ones as they are mapped."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from services.members.redrawing import following
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import UnitSucceeded
from services.shared.ids import new_id
from tests.integration.members.conftest import TOPIC, Service

ONE, TWO, THREE, OTHER = (f"BR-SARAN-MARHAURA-{n}" for n in (101, 102, 103, 104))
NEW, PART, REST = (f"BR-SARAN-MARHAURA-{n}" for n in (201, 301, 302))


def succeeded(unit: str, *successors: str) -> UnitSucceeded:
    return UnitSucceeded(unit=unit, successors=successors, redrawing_id=new_id())


async def members_of(service: Service, unit: str) -> set[str]:
    return {row["_id"] async for row in service.db["members"].find({"unit": unit}, {"_id": 1})}


async def settled(service: Service) -> None:
    """Nothing is pending, and no job is at work."""

    async def done() -> bool:
        pending = await service.db["redrawings"].count_documents({"state": "pending"})
        live = {"kind": following.KIND, "state": {"$in": ["waiting", "running"]}}
        heard = await service.db["redrawings"].count_documents({})
        return bool(heard and not pending and not await service.db["jobs"].count_documents(live))

    await service.app.until(done)


def moves(events: list[Envelope[Event]]) -> list[tuple[str, str, str]]:
    return sorted(
        (e.subject, e.data.from_unit, e.data.unit)  # type: ignore[attr-defined]
        for e in events
        if e.type == "member.moved" and e.data.cause == "redrawn"  # type: ignore[attr-defined]
    )


async def give(service: Service, member: str, role: str, unit: str) -> None:
    answer = await service.http.put(f"/v1/members/{member}/roles/{role}?unit={unit}", json={})
    assert answer.status_code == 200, answer.text


async def test_members_and_roles_follow_their_unit_once(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "MEMBERS_A_STEP", 2)
    people = [(await service.register(unit=unit))["id"] for unit in (ONE, ONE, ONE, TWO, OTHER)]
    left = (await service.register(unit=ONE))["id"]
    assert (await service.http.delete(f"/v1/members/{left}")).status_code == 204
    first, stranger = people[0], people[-1]
    await give(service, first, "coordinator", ONE)
    await give(service, first, "coordinator", TWO)
    await give(service, stranger, "it_cell", TWO)
    before = {id_: await service.stored(id_) for id_ in people}

    await service.app.publish(succeeded(ONE, NEW), succeeded(TWO, NEW))
    await settled(service)

    assert await members_of(service, NEW) == set(people[:4])
    assert await members_of(service, ONE) == {left}, "history keeps the old code"
    events = await service.app.log(TOPIC)
    assert moves(events) == sorted((id_, before[id_]["unit"], NEW) for id_ in people[:4])
    for id_ in people:
        numbers = [event.sequence for event in events if event.subject == id_]
        assert numbers == list(range(1, len(numbers) + 1))
    [officers] = [
        {
            (i["member_id"], i["role"])
            for i in (await service.http.get(f"/v1/units/{NEW}/officers")).json()["items"]
        }
    ]
    assert officers == {(first, "coordinator"), (stranger, "it_cell")}
    held = (await service.http.get(f"/v1/members/{first}/roles")).json()
    assert [(term["role"], term["unit"]) for term in held["items"]] == [("coordinator", NEW)]
    assert ("redrawn", NEW) in {(record["change"], record["unit"]) for record in held["history"]}
    assert ("given", ONE) in {(record["change"], record["unit"]) for record in held["history"]}
    told = [e for e in events if e.type == "member.roles_changed" and e.subject == first][-1]
    assert [(role.role, role.unit) for role in told.data.roles] == [("coordinator", NEW)]  # type: ignore[attr-defined]

    # The same again, as after a repair: nothing happens.
    await service.app.publish(succeeded(ONE, NEW), succeeded(TWO, NEW))
    await settled(service)
    assert len(await service.app.log(TOPIC)) == len(events)


async def test_a_request_that_names_a_retired_unit_means_what_stands_for_it(service: Service) -> None:
    chief = service.app.auth("members:*", ONE)
    mine = (await service.register(unit=ONE))["id"]
    await service.app.publish(succeeded(ONE, NEW), succeeded(THREE, PART, REST))
    await settled(service)
    successions = service.app.runtime.successions
    await successions.refresh()

    later = await service.register(unit=ONE)
    assert later["unit"] == NEW
    moved = await service.http.post(f"/v1/members/{later['id']}/move", json={"unit": TWO})
    assert moved.json()["unit"] == TWO
    moved = await service.http.post(f"/v1/members/{later['id']}/move", json={"unit": ONE})
    assert moved.json()["unit"] == NEW
    # A token of the unit is one of what stands for it; after a split, of nothing.
    seen = await service.http.get("/v1/members", headers=chief)
    assert {item["id"] for item in seen.json()["items"]} == {mine, later["id"]}
    assert (await service.http.get(f"/v1/members/{mine}", headers=chief)).status_code == 200
    lost = service.app.auth("members:*", THREE)
    assert (await service.http.get("/v1/members", headers=lost)).status_code == 404
    part = service.app.auth("members:*", PART)
    assert (await service.http.get(f"/v1/members/{mine}", headers=part)).status_code == 404
    split = await service.post({"name": "A B", "phone": "+919800000001", "unit": THREE})
    assert split.status_code == 422
    assert PART in split.json()["errors"][0]["detail"]


async def test_who_is_in_a_split_unit_is_listed_until_mapped(service: Service) -> None:
    people = [(await service.register(unit=THREE))["id"] for _ in range(3)]
    elsewhere = (await service.register(unit=OTHER))["id"]
    await service.app.publish(succeeded(THREE, PART, REST), succeeded(TWO))
    await settled(service)
    assert moves(await service.app.log(TOPIC)) == []

    async def unmapped(**query: Any) -> list[tuple[str, str]]:
        found, cursor = [], None
        while True:
            params = query | ({"cursor": cursor} if cursor else {})
            page = (await service.http.get("/v1/redrawings/unmapped", params=params)).json()
            found += [(item["member_id"], item["unit"]) for item in page["items"]]
            assert all(item["parts"] == [PART, REST] for item in page["items"])
            if (cursor := page["next"]) is None:
                return found

    assert await unmapped(limit=2) == sorted((id_, THREE) for id_ in people)
    assert await unmapped(unit=OTHER) == []
    items = [
        {"member_id": people[0], "unit": PART},
        {"member_id": people[1], "unit": OTHER},
        {"member_id": elsewhere, "unit": PART},
        {"member_id": new_id(), "unit": PART},
    ]
    answer = await service.http.post("/v1/redrawings/members", json={"items": items})
    assert answer.json()["moved"] == 1
    assert [each["reason"] for each in answer.json()["refused"]] == ["not_a_part", "not_a_part", "unknown"]
    again = await service.http.post("/v1/redrawings/members", json={"items": items[:1]})
    assert again.json() == {"moved": 0, "unchanged": 1, "refused": []}
    outside = service.app.auth("members:*", OTHER)
    stranger = await service.http.post("/v1/redrawings/members", json={"items": items[1:2]}, headers=outside)
    assert stranger.json()["refused"] == [{"member_id": people[1], "reason": "unknown"}]
    assert moves(await service.app.log(TOPIC)) == [(people[0], THREE, PART)]
    assert await unmapped() == sorted((id_, THREE) for id_ in people[1:])


async def test_who_comes_to_a_retired_unit_late_follows_too(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a request that another process took before it knew, or by undoing a merge."""
    monkeypatch.setattr(following, "LOOK_AGAIN", timedelta(0))
    await service.app.publish(succeeded(ONE, NEW), succeeded(NEW, REST))
    await settled(service)
    late = (await service.register(unit=TWO))["id"]
    await service.db["members"].update_one({"_id": late}, {"$set": {"unit": ONE}})

    async def followed() -> bool:
        return bool((await service.stored(late))["unit"] == REST)

    await service.app.until(followed)
