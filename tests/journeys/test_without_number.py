"""Somebody without a number of their own is counted, has no seat and gets no message, until there is one."""

from __future__ import annotations

from typing import Any

import pytest

from infra.local.demo.api import Api
from infra.local.stack import LocalStack
from services.shared.ids import new_id
from tests.fixtures.ids import new_phone
from tests.journeys.test_poison_and_stop import load_tree
from tests.journeys.test_repair import LINK, until

UNIT = "BR-SHARED"


@pytest.mark.timeout(90)
async def test_who_shares_a_telephone_is_counted_and_left_alone(stack: LocalStack) -> None:
    async with Api(stack.urls, stack.token, connections=2) as api:
        await load_tree(api)
        unit = {"level": "district", "name": {"en": "Shared", "hi": "जिला"}}
        await api.send("PUT", "groups", f"/v1/units/{UNIT}", json=unit)

        async def register(**how: Any) -> str:
            consent = {"purpose": "welcome", "channel": "sms", "notice": "v1", "language": "hi"}
            person = {"name": "Asha", "unit": UNIT, "consents": [consent], **how}
            answer = await api.send(
                "POST", "members", "/v1/members", json=person, headers={"Idempotency-Key": new_id()}
            )
            assert answer.status_code == 201, answer.text
            return str(answer.json()["id"])

        async def group() -> dict[str, Any]:
            found = (await api.get("groups", "/v1/groups", unit=UNIT))["items"]
            return dict(found[0]) if found else {"members": 0}

        async def welcome(member: str) -> tuple[object, object]:
            found = (await api.get("notifications", "/v1/notifications", member=member))["items"]
            return (found[0]["state"], found[0].get("reason")) if found else (None, None)

        async def counts() -> tuple[int, int, int]:
            """Members, those without a number, and seats taken, as analytics has them."""
            answer = await api.send("GET", "analytics", f"/v1/overview?unit={UNIT}")
            if not answer.is_success:
                return 0, 0, 0
            seen = answer.json()
            return seen["members"]["total"], seen["members"]["without_number"], seen["groups"]["taken"]

        async def first() -> bool:
            return await counts() == (2, 1, 1) and (await group())["members"] == 1

        owner = await register(phone=new_phone())
        mother = await register(reached_by=owner)
        await until(first)

        async def left_alone() -> bool:
            return await welcome(mother) == ("suppressed", "no_number")

        await until(left_alone)
        current = await api.send("GET", "groups", f"/v1/groups/{(await group())['id']}")
        match = {"If-Match": current.headers["etag"]}
        path = f"/v1/groups/{current.json()['id']}"
        await api.send("PATCH", "groups", path, json={"invite_link": LINK}, headers=match)

        async def owner_welcomed() -> bool:
            return (await welcome(owner))[0] == "sent"

        await until(owner_welcomed)
        assert await left_alone()

        answer = await api.send(
            "PATCH",
            "members",
            f"/v1/members/{mother}",
            json={"phone": new_phone()},
            headers={"If-Match": '"1"'},
        )
        assert answer.status_code == 200, answer.text

        async def one_like_others() -> bool:
            return await counts() == (2, 0, 2) and (await welcome(mother))[0] == "sent"

        await until(one_like_others)
