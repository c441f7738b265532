"""Pairs of members who may be one person: found in the background, dismissed for good."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from infra.local.keys import Keys
from services.members.duplicates import looking, store
from services.members.settings import MembersSettings
from services.shared.ids import new_id
from services.shared.loops import Pace
from tests.integration.members.conftest import UNIT, Service, serving
from tests.integration.members.test_merges import ELSEWHERE, merge, undo

BLOCK = UNIT.rpartition("-")[0]
NEXT_BOOTH = f"{BLOCK}-102"
KNOWN = {"gender": "female", "birth_year": 1988}


@pytest_asyncio.fixture(loop_scope="session")
async def looked(
    settings: MembersSettings, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Service]:
    """A service whose loop looks at changes at once."""
    monkeypatch.setattr(looking, "SETTLED", timedelta())
    monkeypatch.setattr(looking, "PACE", Pace(0.02, 0.05))
    async with serving(settings, keys) as service:
        yield service


async def listed(service: Service, caller: str = "*", **query: str) -> list[Any]:
    """As somebody who may read contacts, which are not shown even so."""
    headers = service.app.auth("members:read contacts:read", caller)
    answer = await service.http.get("/v1/duplicates", params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    items: list[Any] = answer.json()["items"]
    return items


async def pairs(service: Service, caller: str = "*", **query: str) -> set[frozenset[str]]:
    found = await listed(service, caller, **query)
    return {frozenset(member["id"] for member in item["members"]) for item in found}


async def looked_through(service: Service) -> None:
    """Wait until every change of a member so far was looked at."""
    newest = await service.db["members"].find_one({}, sort=[("updated_at", -1)])
    assert newest is not None

    async def seen() -> bool:
        done = await service.db["duplicates_progress"].find_one({})
        return done is not None and done["changed"] >= newest["updated_at"]

    await service.app.until(seen)


async def next_instant(service: Service) -> datetime:
    done = await service.db["duplicates_progress"].find_one({})
    assert done is not None
    at: datetime = done["changed"] + timedelta(milliseconds=1)
    return at


async def again(service: Service) -> None:
    """Have all members looked at anew, as if they had changed at one instant."""
    await service.db["duplicates"].delete_many({})
    at = await next_instant(service)
    await service.db["members"].update_many({}, {"$set": {"updated_at": at}})
    await looked_through(service)


async def dismiss(service: Service, pair_id: str, caller: str = "*") -> int:
    headers = service.app.auth("members:write members:read contacts:read", caller, sub="chief")
    answer = await service.http.post(f"/v1/duplicates/{pair_id}/dismiss", headers=headers)
    assert "phone" not in answer.text
    return answer.status_code


async def test_duplicates_are_suggested_and_twins_are_not(looked: Service) -> None:
    one = await looked.register(name="Asha Kumari Devi", **KNOWN)
    new_number = await looked.register(name="आशा देवी", unit=NEXT_BOOTH, **KNOWN)
    twin = await looked.register(name="Usha Kumari Devi", **KNOWN)
    left = await looked.register(name="Ramesh Paswan", unit=ELSEWHERE)
    await looked.http.delete(f"/v1/members/{left['id']}")
    back = await looked.register(name="रमेश पासवान", phone=left["phone"])
    await looked_through(looked)
    same, came_back = frozenset((one["id"], new_number["id"])), frozenset((left["id"], back["id"]))
    assert await pairs(looked) == {same, came_back}
    [item] = await listed(looked, unit=BLOCK)
    assert item["reasons"] == ["similar_name", "same_birth_year", "near_unit"]
    assert {member["name"] for member in item["members"]} == {"Asha Kumari Devi", "आशा देवी"}
    assert not any("phone" in member for member in item["members"])
    stored = str([row async for row in looked.db["duplicates"].find({})])
    assert not any(name in stored for name in ("Asha", "आशा", left["phone"], twin["id"]))
    assert await pairs(looked, caller=BLOCK) == {same}
    assert await pairs(looked, caller=UNIT) == set()
    assert await pairs(looked, caller=ELSEWHERE) == set()


async def test_a_dismissed_pair_is_never_suggested_again(looked: Service) -> None:
    one, two = [await looked.register(name="Asha Kumari Devi", **KNOWN) for _ in range(2)]
    await looked_through(looked)
    [item] = await listed(looked)
    assert await dismiss(looked, item["id"], caller=ELSEWHERE) == 404
    assert await dismiss(looked, new_id()) == 404
    assert await dismiss(looked, item["id"]) == 200
    assert await dismiss(looked, item["id"]) == 200
    for member in (one, two):
        headers = {"If-Match": '"1"'}
        await looked.http.patch(f"/v1/members/{member['id']}", json={"name": "Asha Devi"}, headers=headers)
    await looked_through(looked)
    assert await listed(looked) == []
    [dismissed] = await listed(looked, state="dismissed")
    assert (dismissed["id"], dismissed["by"]) == (item["id"], "chief")


async def test_what_is_no_longer_suspected_is_no_longer_listed(looked: Service) -> None:
    one, two, three = [await looked.register(name="Asha Kumari Devi", **KNOWN) for _ in range(3)]
    await looked_through(looked)
    assert len(await listed(looked)) == 3
    await looked.http.post(f"/v1/members/{three['id']}/move", json={"unit": ELSEWHERE})
    assert await pairs(looked, caller=BLOCK) == {frozenset((one["id"], two["id"]))}, "at once"
    await looked_through(looked)
    assert len(await listed(looked)) == 1
    merged = (await merge(looked, one["id"], two["id"])).json()
    await looked_through(looked)
    assert await listed(looked) == []
    await undo(looked, merged["id"])
    await looked_through(looked)
    assert await pairs(looked) == {frozenset((one["id"], two["id"]))}


async def test_a_look_ends_however_many_share_a_name_and_finds_the_others(
    looked: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "COMPARED", 5)
    for _ in range(15):
        await looked.register(name="Asha Kumari Devi", **KNOWN)
    rare = {(await looked.register(name="Ramesh Paswan"))["id"] for _ in range(2)}
    await looked_through(looked)
    await again(looked)
    found = await listed(looked, limit="500")
    assert 15 * 5 / 2 <= len(found) - 1 <= 15 * 5
    assert rare in ({member["id"] for member in item["members"]} for item in found)


async def test_of_many_namesakes_the_likeliest_few_are_suggested_and_stay(
    looked: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "SUGGESTED", 3)
    ids = [(await looked.register(name="Asha Kumari Devi", **KNOWN))["id"] for _ in range(12)]
    elsewhere = await looked.register(name="Asha Kumari Devi", unit=NEXT_BOOTH, **KNOWN)
    await looked_through(looked)
    await again(looked)
    found = await pairs(looked, limit="500")
    assert set().union(*found) == {*ids, elsewhere["id"]}
    assert len(found) <= 13 * 3
    assert all(sum(id_ in pair for pair in found) >= 3 for id_ in ids)
    # A pair that only the other one's look has suggested is not deleted by a look at this one.
    await looked.db["members"].update_one(
        {"_id": ids[0]}, {"$set": {"updated_at": await next_instant(looked)}}
    )
    await looked_through(looked)
    assert await pairs(looked, limit="500") >= found


async def test_members_of_one_instant_are_looked_at_together(
    looked: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a page of an import, which may be more than a batch."""
    monkeypatch.setattr(looking, "BATCH", 1 << 30)
    ids = [(await looked.register(name="Asha Devi", **KNOWN))["id"] for _ in range(6)]
    await looked_through(looked)
    await looked.db["duplicates"].delete_many({})
    done = await looked.db["duplicates_progress"].find_one({})
    assert done is not None
    at = done["changed"] + timedelta(milliseconds=1)
    monkeypatch.setattr(looking, "BATCH", 2)
    async with (
        await looked.app.runtime.client.start_session() as session,
        session.start_transaction(),
    ):
        change = {"$set": {"updated_at": at}}
        await looked.db["members"].update_many({"_id": {"$in": ids}}, change, session=session)
    await looked_through(looked)
    assert len(await listed(looked)) == 15
