"""Forged events freeze a member and a group in every consumer; `ops repair` mends them under traffic."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.local.demo.api import Api
from infra.local.stack import LocalStack
from services.shared.clock import SystemClock
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.groups import GroupInviteChanged
from services.shared.contracts.members import MemberMoved
from services.shared.ids import new_id
from services.shared.messaging import KafkaBroker, encode
from services.shared.operations.cli.app import app
from tests.fixtures.apps import TRACEPARENT
from tests.fixtures.ids import new_phone
from tests.journeys.test_poison_and_stop import load_tree

AHEAD = 500_000
LINK = "https://chat.whatsapp.com/AbCdEfGhIjKlMnOpQrStUv"


async def forge(stack: LocalStack, event: Event) -> None:
    """Publish it far ahead of its subject, as anybody could who may write to the topic."""
    envelope = Envelope(new_id(), AHEAD, SystemClock().now(), "forged", TRACEPARENT, event)
    producer = await KafkaBroker(stack.kafka, client_id="test").producer()
    await producer.publish([encode(envelope)])
    await producer.stop()


async def ops(stack: LocalStack, *arguments: str) -> tuple[int, str]:
    """Run the command in this process, which starts no interpreter; its exit code and output."""
    command = [*arguments, "--dir", str(stack.directory)]
    result = await asyncio.to_thread(CliRunner().invoke, app, command)
    return result.exit_code, result.output


async def handled(api: Api, service: str, kind: str = "member.moved") -> int:
    """How many such events the service has handled, stale ones among them."""
    text = (await api.send("GET", service, "/metrics")).text
    found = re.search(rf'consumer_events_total{{outcome="applied",type="{kind}"}} (\d+)', text)
    return int(found[1]) if found else 0


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(300):
        if await condition():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("waited in vain")


class Member:
    """One member as each service sees them."""

    def __init__(self, api: Api, id_: str) -> None:
        self.api, self.id = api, id_

    async def move(self, unit: str) -> None:
        answer = await self.api.send("POST", "members", f"/v1/members/{self.id}/move", json={"unit": unit})
        assert answer.status_code == 200, answer.text

    async def placed_in(self, unit: str) -> bool:
        answer = await self.api.send("GET", "groups", f"/v1/members/{self.id}/groups")
        return bool(answer.is_success and [x for x in answer.json()["items"] if x["unit"] == unit])

    async def welcome(self) -> dict[str, Any]:
        [found] = (await self.api.get("notifications", "/v1/notifications", member=self.id))["items"]
        return dict(found)

    async def counted(self, unit: str) -> int:
        answer = await self.api.send("GET", "analytics", "/v1/overview", params={"unit": unit})
        return int(answer.json()["members"]["total"]) if answer.is_success else 0


async def join(api: Api, unit: str, phone: str) -> Member:
    body = {
        "name": "Asha Devi",
        "phone": phone,
        "unit": unit,
        "gender": "female",
        "language": "hi",
        "consents": [{"purpose": "welcome", "channel": "whatsapp", "notice": "v1", "language": "hi"}],
    }
    answer = await api.send(
        "POST", "members", "/v1/members", json=body, headers={"Idempotency-Key": new_id()}
    )
    assert answer.status_code == 201, answer.text
    return Member(api, answer.json()["id"])


@pytest.mark.heavy
@pytest.mark.timeout(180)
async def test_a_frozen_subject_is_learnt_again_by_every_consumer(stack: LocalStack) -> None:
    async with Api(stack.urls, stack.token, connections=4) as api:
        await load_tree(api)
        for unit in ("BR-RONE", "BR-RTWO", "BR-RTHREE"):
            body = {"level": "district", "name": {"en": unit, "hi": "जिला"}}
            await api.send("PUT", "groups", f"/v1/units/{unit}", json=body)
        member = await join(api, "BR-RONE", new_phone())
        await until(lambda: member.placed_in("BR-RONE"))
        [group] = (await api.get("groups", "/v1/groups", unit="BR-RONE"))["items"]

        # A forged move of the member, and a forged withdrawal of the link of their group.
        earlier = await handled(api, "analytics")
        await forge(stack, MemberMoved(member_id=member.id, from_unit="BR-RONE", unit="BR-RTWO"))
        await until(lambda: member.placed_in("BR-RTWO"))
        [second] = (await api.get("groups", "/v1/groups", unit="BR-RTWO"))["items"]
        await forge(stack, GroupInviteChanged(group_id=group["id"], unit="BR-RONE", invite_ready=False))
        # analytics may read the forged move only now, together with the honest one.
        moves = {"groups": await handled(api, "groups"), "analytics": earlier + 1}
        await member.move("BR-RTHREE")
        for service, seen in moves.items():
            await until(lambda service=service, seen=seen: _is(handled(api, service), seen + 1))  # type: ignore[misc]
        assert await member.placed_in("BR-RTWO"), "groups is frozen"
        assert await member.counted("BR-RTHREE") == 0, "analytics is frozen"

        for service in ("groups", "notifications", "analytics"):
            code, said = await ops(stack, "repair", "--service", service, "--subject", member.id, "--json")
            assert code == 0, said
            rows = [json.loads(line) for line in said.splitlines()]
            assert [r["sequence"] for r in rows if r["service"] == "members"] == [2]
            assert max(r["sequence"] for r in rows if r["service"] == service) == AHEAD
        await until(lambda: member.placed_in("BR-RTHREE"))
        await until(lambda: _is(member.counted("BR-RTHREE"), 1))
        assert await member.counted("BR-RTWO") == 0

        await member.move("BR-RONE")
        await until(lambda: member.placed_in("BR-RONE"))
        await until(lambda: _is(member.counted("BR-RONE"), 1))
        assert second["id"] != group["id"]

        # The link of their group: the honest one is stale for notifications until the repair.
        current = await api.send("GET", "groups", f"/v1/groups/{group['id']}")
        links = await handled(api, "notifications", "group.invite_changed")
        answer = await api.send(
            "PATCH",
            "groups",
            f"/v1/groups/{group['id']}",
            json={"invite_link": LINK},
            headers={"If-Match": current.headers["etag"]},
        )
        assert answer.status_code == 200, answer.text
        await until(lambda: _is(handled(api, "notifications", "group.invite_changed"), links + 1))
        assert (await member.welcome())["state"] == "queued", "notifications is frozen"
        code, said = await ops(stack, "repair", "-s", "notifications", "--subject", group["id"])
        assert code == 0, said
        await until(lambda: _is(_state(member), "sent"))

        welcome = (await member.welcome())["id"]
        code, said = await ops(stack, "repair", "-s", "analytics", "--subject", welcome, "--json")
        assert [json.loads(line)["kind"] for line in said.splitlines()] == [
            "notifications",
            "notification.snapshot",
        ]


@pytest.mark.heavy
@pytest.mark.timeout(180)
async def test_repairs_under_traffic_lose_and_double_nothing(stack: LocalStack) -> None:
    async with Api(stack.urls, stack.token, connections=8) as api:
        await load_tree(api)
        units = ["BR-TONE", "BR-TTWO"]
        for unit in units:
            body = {"level": "district", "name": {"en": unit, "hi": "जिला"}}
            await api.send("PUT", "groups", f"/v1/units/{unit}", json=body)
        members = [await join(api, units[0], new_phone()) for _ in range(6)]
        subjects = [argument for member in members for argument in ("--subject", member.id)]
        done = asyncio.Event()

        async def keep_moving() -> None:
            while not done.is_set():
                for unit in reversed(units):
                    await asyncio.gather(*(member.move(unit) for member in members))

        moving = asyncio.create_task(keep_moving())
        for service in ("groups", "analytics", "notifications"):
            code, said = await ops(stack, "repair", "-s", service, *subjects)
            assert code == 0, said
        done.set()
        await moving
        for member in members:
            await until(lambda member=member: member.placed_in(units[0]))  # type: ignore[misc]
        await until(lambda: _is(members[0].counted(units[0]), len(members)))
        await until(lambda: _is(members[0].counted(units[1]), 0))
        [first] = (await api.get("groups", "/v1/groups", unit=units[0]))["items"]
        [second] = (await api.get("groups", "/v1/groups", unit=units[1]))["items"]
        assert (first["members"], second["members"]) == (len(members), 0)
        days = await api.get("analytics", "/v1/timeseries", unit=units[0], metric="members.joined")
        assert sum(point["value"] for point in days["points"]) == len(members), "nobody joined twice"
        for member in members:
            await member.welcome()  # exactly one


@pytest.mark.timeout(60)
async def test_a_subject_that_no_owner_has_is_not_forgotten(stack: LocalStack) -> None:
    code, said = await ops(stack, "repair", "-s", "groups", "--subject", new_id())
    assert code == 1
    assert said.startswith("error: nothing was changed: members and notifications do not have ")
    assert said.count("\n") == 1


async def _state(member: Member) -> str:
    return str((await member.welcome())["state"])


async def _is(reading: Awaitable[Any], wanted: Any) -> bool:
    return bool(await reading == wanted)
