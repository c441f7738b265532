"""The running system under bad records and orderly stops."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from infra.local.demo.api import Api
from infra.local.demo.arrivals import Arrivals
from infra.local.demo.people import people
from infra.local.stack import LocalStack
from services.shared.messaging import KafkaBroker, Message
from tests.journeys.test_kill import read

UNITS = "code,level,name_en,name_hi\nBR,state,Bihar,बिहार\nBR-GAYA,district,Gaya,गया\n"
TOPICS = ("sangathan.members", "sangathan.groups", "sangathan.notifications")
READERS = {"groups": 2, "notifications": 2, "analytics": 3}
BAD = 12


def poison(topic: str, n: int) -> Message:
    values = (b"\xff\xfe", b"{", b"[" * 5000, b"null", b'{"phone": "+919876543210"}', b"")
    headers: tuple[tuple[str, bytes], ...] = (("ce_type", b"member.joined"), ("ce_id", b"x"))
    return Message(topic, str(n).encode(), values[n % len(values)], headers if n % 2 else ())


async def load_tree(api: Api) -> None:
    answer = await api.send(
        "POST", "groups", "/v1/units/imports", content=UNITS.encode(), headers={"content-type": "text/csv"}
    )
    assert answer.status_code == 200, answer.text


async def until_balanced(api: Api, members: int, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        lines = await read(api)
        one_each = set(lines[0].figures.values())
        placed = lines[0].figures["members"] == lines[0].figures["groups"] == lines[0].figures["analytics"]
        if placed and members in one_each:
            return
        assert time.monotonic() < deadline, lines
        await asyncio.sleep(0.3)


async def letters_of(api: Api, service: str, wanted: int, seconds: float = 60) -> list[Any]:
    """The dead letters of a service once it has as many as wanted. No figure of the books waits for
    notifications to have read every topic, so neither may this test count at once."""
    deadline = time.monotonic() + seconds
    while True:
        letters: list[Any] = [x async for x in api.pages(service, "/v1/ops/dead-letters", state="dead")]
        if len(letters) >= wanted or time.monotonic() > deadline:
            return letters
        await asyncio.sleep(0.3)


@pytest.mark.heavy
@pytest.mark.timeout(180)
async def test_poison_in_every_topic_stops_nobody(tmp_path: Path) -> None:
    async with (
        LocalStack(tmp_path) as stack,
        Api(stack.urls, stack.token, connections=16) as api,
    ):
        await load_tree(api)
        producer = await KafkaBroker(stack.kafka, client_id="test").producer()
        await producer.publish([poison(topic, n) for topic in TOPICS for n in range(BAD)])
        await producer.stop()
        accepted = await Arrivals(api).rush(people(40, ["BR-GAYA"], 5), 8, lambda: None)
        await until_balanced(api, len(accepted))
        for service, topics in READERS.items():
            letters = await letters_of(api, service, BAD * topics)
            assert len(letters) == BAD * topics
            assert len({x["id"] for x in letters}) == BAD * topics
            assert not any(x["replayable"] for x in letters)
            assert "9876543210" not in str(letters)
            path = f"/v1/ops/dead-letters/{letters[0]['id']}"
            assert (await api.send("POST", service, f"{path}/replay")).status_code == 409
            discarded = await api.send("POST", service, f"{path}/discard", json={"reason": "not ours"})
            assert discarded.json()["state"] == "discarded"


@pytest.mark.heavy
@pytest.mark.timeout(240)
async def test_sigterm_under_load_is_clean_and_loses_nothing(tmp_path: Path) -> None:
    """Each service in turn, while members join: gone within 10 s with code 0, and the books balance
    afterwards."""
    async with (
        LocalStack(tmp_path) as stack,
        Api(stack.urls, stack.token, connections=40) as api,
    ):
        await load_tree(api)
        joining = asyncio.create_task(Arrivals(api).rush(people(400, ["BR-GAYA"], 6), 32, lambda: None))
        for name in ("groups", "members", "notifications", "analytics"):
            await asyncio.sleep(0.4)
            child = stack.processes[name]
            began = time.monotonic()
            child.signal(signal.SIGTERM)
            while not child.exit_codes:
                assert time.monotonic() - began < 10, f"{name} took too long"
                await asyncio.sleep(0.02)
        accepted = await joining
        await stack.wait_ready()
        assert len(accepted) == 400
        await until_balanced(api, 400)
        for name in ("groups", "members", "notifications", "analytics"):
            assert stack.processes[name].exit_codes == [0], name
