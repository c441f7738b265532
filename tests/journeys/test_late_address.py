"""A consent for e-mail without an address: the welcome waits for the address, and goes when one is added."""

from __future__ import annotations

from typing import Any

import pytest

from infra.local.demo.api import Api
from infra.local.stack import LocalStack
from services.shared.ids import new_id
from tests.fixtures.ids import new_phone
from tests.journeys.test_poison_and_stop import load_tree
from tests.journeys.test_repair import LINK, until


@pytest.mark.timeout(90)
async def test_the_address_that_comes_later_brings_the_welcome(stack: LocalStack) -> None:
    async with Api(stack.urls, stack.token, connections=2) as api:
        await load_tree(api)
        unit = {"level": "district", "name": {"en": "Late", "hi": "जिला"}}
        await api.send("PUT", "groups", "/v1/units/BR-LATE", json=unit)
        person: dict[str, Any] = {"name": "Asha", "phone": new_phone(), "unit": "BR-LATE"}
        person["consents"] = [{"purpose": "welcome", "channel": "email", "notice": "v1", "language": "hi"}]
        joined = await api.send(
            "POST", "members", "/v1/members", json=person, headers={"Idempotency-Key": new_id()}
        )
        id_ = joined.json()["id"]

        async def welcome() -> dict[str, Any]:
            found = (await api.get("notifications", "/v1/notifications", member=id_))["items"]
            return dict(found[0]) if found else {}

        async def placed() -> bool:
            answer = await api.send("GET", "groups", f"/v1/members/{id_}/groups")
            return bool(answer.is_success and answer.json()["items"])

        await until(placed)
        [group] = (await api.get("groups", "/v1/groups", unit="BR-LATE"))["items"]
        current = await api.send("GET", "groups", f"/v1/groups/{group['id']}")
        match = {"If-Match": current.headers["etag"]}
        await api.send(
            "PATCH", "groups", f"/v1/groups/{group['id']}", json={"invite_link": LINK}, headers=match
        )

        async def waits() -> bool:
            return (await welcome()).get("held_for") == "no_address"

        await until(waits)
        answer = await api.send(
            "PATCH",
            "members",
            f"/v1/members/{id_}",
            json={"email": "asha@example.org"},
            headers={"If-Match": joined.headers["etag"]},
        )
        assert answer.status_code == 200, answer.text

        async def sent() -> bool:
            return (await welcome()).get("state") == "sent"

        await until(sent)
