"""Two records of one person on the four services: one seat, one count and one welcome; parted, two."""

from __future__ import annotations

from typing import Any

import pytest

from infra.local.demo.api import Api
from infra.local.demo.books import balance
from infra.local.stack import LocalStack
from services.shared.ids import new_id
from tests.fixtures.ids import new_phone
from tests.journeys.test_poison_and_stop import load_tree
from tests.journeys.test_repair import LINK, until

UNIT = "BR-MERGED"


@pytest.mark.timeout(90)
async def test_a_merge_leaves_one_seat_one_count_and_one_welcome(stack: LocalStack) -> None:
    async with Api(stack.urls, stack.token, connections=2) as api:
        await load_tree(api)
        unit = {"level": "district", "name": {"en": "Merged", "hi": "जिला"}}
        await api.send("PUT", "groups", f"/v1/units/{UNIT}", json=unit)
        before = await counted(api)
        one = await join(api, "Asha Devi", new_phone(), "whatsapp")
        two = await join(api, "आशा देवी", new_phone(), "sms")
        await until(lambda: figures(api, seats=2, total=2))

        answer = await api.send("POST", "members", f"/v1/members/{one}/merge", json={"other": two})
        assert answer.status_code == 200, answer.text
        await until(lambda: figures(api, seats=1, total=1))
        await until(lambda: suppressed(api, two))
        [group] = (await api.get("groups", "/v1/groups", unit=UNIT))["items"]
        current = await api.send("GET", "groups", f"/v1/groups/{group['id']}")
        match = {"If-Match": current.headers["etag"]}
        await api.send(
            "PATCH", "groups", f"/v1/groups/{group['id']}", json={"invite_link": LINK}, headers=match
        )
        await until(lambda: sent(api, one))

        undone = await api.send("POST", "members", f"/v1/merges/{answer.json()['id']}/undo")
        assert undone.status_code == 200, undone.text
        await until(lambda: figures(api, seats=2, total=2))
        assert [await states(api, each) for each in (one, two)] == [["sent"], ["suppressed"]]
        assert await counted(api) == before + 2
        for line in await books(api, (one, two)):
            assert line.balances, line
        dead = [
            await api.get(name, "/v1/ops/dead-letters") for name in ("groups", "notifications", "analytics")
        ]
        assert not any(two in str(letters) or one in str(letters) for letters in dead)


async def join(api: Api, name: str, phone: str, channel: str) -> str:
    person: dict[str, Any] = {"name": name, "phone": phone, "unit": UNIT, "birth_year": 1988}
    person["consents"] = [{"purpose": "welcome", "channel": channel, "notice": "v1", "language": "hi"}]
    answer = await api.send(
        "POST", "members", "/v1/members", json=person, headers={"Idempotency-Key": new_id()}
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def figures(api: Api, *, seats: int, total: int) -> bool:
    groups = (await api.get("groups", "/v1/groups", unit=UNIT))["items"]
    answer = await api.send("GET", "analytics", "/v1/overview", params={"unit": UNIT})
    if answer.status_code == 404:  # it has not heard of the unit yet
        return False
    overview = answer.json()
    taken, counts = sum(group["members"] for group in groups), overview["groups"]["taken"]
    return (taken, counts, overview["members"]["total"]) == (seats, seats, total)


async def states(api: Api, member_id: str) -> list[str]:
    found = (await api.get("notifications", "/v1/notifications", member=member_id))["items"]
    return [each["state"] for each in found]


async def suppressed(api: Api, member_id: str) -> bool:
    return await states(api, member_id) == ["suppressed"]


async def sent(api: Api, member_id: str) -> bool:
    return await states(api, member_id) == ["sent"]


async def counted(api: Api) -> int:
    return int((await api.get("analytics", "/v1/overview"))["members"]["total"])


async def books(api: Api, ids: tuple[str, str]) -> list[Any]:
    """The books of the unit."""
    return list(
        balance(
            [m async for m in api.pages("members", "/v1/members", status="active", unit=UNIT)],
            [g async for g in api.pages("groups", "/v1/groups", unit=UNIT)],
            [
                n
                for each in ids
                for n in (await api.get("notifications", "/v1/notifications", member=each))["items"]
            ],
            await api.get("analytics", "/v1/overview", unit=UNIT),
        )
    )
