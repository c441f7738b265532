"""An upgrade that brings a new event type, and messages that go by gateways from then on: old and new
processes side by side under traffic."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from infra.local.demo.api import Api
from infra.local.demo.arrivals import Arrivals
from infra.local.demo.gateways import Simulators
from infra.local.demo.invites import InviteLinks
from infra.local.demo.people import people
from infra.local.services import module
from infra.local.stack import LocalStack
from services.shared.messaging.consuming.fuse import RUN_LENGTH
from tests.journeys.test_poison_and_stop import load_tree, until_balanced
from tests.journeys.test_repair import until

CONSUMERS = ("groups", "notifications", "analytics")
NEW = "member.moved"
"""The type that the release before does not know."""
MOVES = 2 * RUN_LENGTH
GATEWAYS = {"SMS_GATEWAY": "exotel", "EMAIL_GATEWAY": "smtp", "WHATSAPP_GATEWAY": "cloud_api"}
RECORDING = {"SANGATHAN_SENDER": "recording"} | {f"SANGATHAN_{name}": "none" for name in GATEWAYS}
SENDING = {"SANGATHAN_SENDER": "gateways"} | {f"SANGATHAN_{name}": word for name, word in GATEWAYS.items()}


class Upgrading(LocalStack):
    """Two processes of each consumer. They are of the older release until they are upgraded."""

    def __init__(self, directory: Path) -> None:
        self.older = True
        super().__init__(
            directory,
            replicas=dict.fromkeys(CONSUMERS, 2),
            command=self._release,
            env={"notifications": RECORDING},
            simulators="clean",
        )

    def _release(self, service: str) -> list[str]:
        if self.older and service in CONSUMERS:
            return [sys.executable, "-m", "tests.fixtures.older_release", service, NEW]
        return list(module(service))

    async def upgrade(self, process: str) -> None:
        await self.processes[process].stop()
        await self.start_again(process, SENDING if process.startswith("notifications") else {})


async def letters(api: Api, service: str, state: str) -> int:
    found = await api.get(service, "/v1/ops/dead-letters/summary", state=state)
    return int(found["total"])


async def move(api: Api, ids: list[str], unit: str) -> None:
    for id_ in ids:
        answer = await api.send("POST", "members", f"/v1/members/{id_}/move", json={"unit": unit})
        assert answer.status_code == 200, answer.text


@pytest.mark.heavy
@pytest.mark.timeout(300)
async def test_a_new_event_type_is_applied_once_and_opens_no_fuse(tmp_path: Path) -> None:
    async with Upgrading(tmp_path) as stack, Api(stack.urls, stack.token, connections=16) as api:
        await load_tree(api)
        for unit in ("BR-PATNA", "BR-SARAN"):
            body = {"level": "district", "name": {"en": unit, "hi": "जिला"}}
            await api.send("PUT", "groups", f"/v1/units/{unit}", json=body)
        crowd = people(MOVES + 140, ["BR-GAYA"], 5)
        first = await Arrivals(api).rush(itertools.islice(crowd, MOVES), 8, lambda: None)
        ids = [accepted.member_id for accepted in first]
        links = InviteLinks(api)
        await until(links_given(links))
        await until(all_sent(api))
        await move(api, ids, "BR-PATNA")

        async def set_aside() -> bool:
            return all([await letters(api, service, "set_aside") == MOVES for service in CONSUMERS])

        await until(set_aside)
        stack.older = False
        joining = asyncio.create_task(Arrivals(api).rush(itertools.islice(crowd, 120), 4, lambda: None))
        for service in CONSUMERS:
            await stack.upgrade(service)
        await move(api, ids, "BR-SARAN")  # old and new ones share the partitions now
        shared = {service: await letters(api, service, "set_aside") for service in CONSUMERS}
        for service in CONSUMERS:
            await stack.upgrade(f"{service}-2")
        await joining
        await Arrivals(api).rush(crowd, 4, lambda: None)  # their welcomes go by the new setting in any case
        await until_balanced(api, MOVES + 140)

        async def followed() -> bool:
            counted = [
                (await api.get("analytics", "/v1/overview", unit=u))["members"]["total"] for u in UNITS
            ]
            [group] = (await api.get("groups", "/v1/groups", unit="BR-SARAN"))["items"] or [{"members": 0}]
            return (counted, group["members"]) == ([140, 0, MOVES], MOVES)

        await until(followed)
        for service in CONSUMERS:
            assert await letters(api, service, "dead") == 0
            assert await letters(api, service, "set_aside") == 0
            assert not (await api.get(service, "/v1/ops/fuse"))["open"]
        assert any(shared.values()), "the old processes had no partition with a move"
        await until(links_given(links))
        await until(all_sent(api))
        await check_messages(stack, api)


def links_given(links: InviteLinks) -> Callable[[], Awaitable[bool]]:
    async def given() -> bool:
        return not await links.give() and bool(links.live)

    return given


def all_sent(api: Api) -> Callable[[], Awaitable[bool]]:
    """Whether there are messages, and none is still to go."""

    async def sent() -> bool:
        notes = [note async for note in api.pages("notifications", "/v1/notifications")]
        return bool(notes) and all(note["state"] in ("sent", "suppressed") for note in notes)

    return sent


async def check_messages(stack: LocalStack, api: Api) -> None:
    """Each message was recorded by a process of the old setting, or taken once by a gateway, never both."""
    assert stack.gateways is not None
    async with Simulators(stack.gateways.url("control")) as simulators:
        record = await simulators.read(api)
    assert not any(gateway.twice for gateway in record.gateways)
    senders = Counter[str]()
    async for note in api.pages("notifications", "/v1/notifications", state="sent"):
        [attempt] = note["attempts"]
        senders["recording" if attempt["sender"] == "recording" else "gateways"] += 1
        taken = len(record.messages.get(note["id"], ()))
        assert taken == (attempt["sender"] != "recording"), note
    assert senders["recording"] > 0
    assert senders["gateways"] > 0


UNITS = ("BR-GAYA", "BR-PATNA", "BR-SARAN")
