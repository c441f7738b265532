"""Adding partitions to a topic as the runbook says: its writer stopped, its readers drained. Keys move,
nothing is lost."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from infra.local.demo.api import Api
from infra.local.demo.arrivals import Arrivals
from infra.local.demo.lines import Line
from infra.local.demo.people import people
from infra.local.demo.tree import codes
from infra.local.stack import LocalStack
from services.shared.contracts.members import TOPIC
from services.shared.messaging import KafkaBroker, Partition
from tests.journeys.joining import import_units
from tests.journeys.test_kill import settled
from tests.journeys.test_restore import links_given

MEMBERS, MORE = 120, 60
BEFORE, AFTER = 6, 12


async def alter(bootstrap: str, topic: str, partitions: int) -> None:
    """The effect of `kafka-topics.sh --alter`, without its JVM."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_partitions({topic: NewPartitions(partitions)})
    finally:
        await admin.close()


async def places(bootstrap: str) -> dict[str, list[Partition]]:
    """The partitions of each member's events, in reading order: one partition after the other."""
    broker = KafkaBroker(bootstrap, client_id="test")
    consumer = await broker.consumer("test-places", [TOPIC])
    found: dict[str, list[Partition]] = defaultdict(list)
    quiet = 0
    try:
        while quiet < 8:
            records = await consumer.fetch(2000, 0.25)
            quiet = 0 if records else quiet + 1
            for record in records:
                found[(record.key or b"").decode()].append(record.partition)
    finally:
        await consumer.stop()
    return found


@pytest.mark.kafka
@pytest.mark.timeout(240)
async def test_more_partitions_move_keys_and_lose_nothing(tmp_path: Path) -> None:
    async with (
        LocalStack(tmp_path, broker="kafka") as stack,
        Api(stack.urls, stack.token, connections=16) as api,
        links_given(api),
    ):
        units = codes(await import_units(api))
        crowd = list(people(MEMBERS + MORE, units, 7))
        joined = await Arrivals(api).rush(crowd[:MEMBERS], 8, lambda: None)
        assert balanced(await settled(api, MEMBERS))
        await stack.processes["members"].stop()
        await alter(stack.kafka, TOPIC, AFTER)
        await stack.start_again("members", {})

        moved = {m.member_id: await move(api, m.member_id, units) for m in joined[:MORE]}
        newcomers = await Arrivals(api).rush(crowd[MEMBERS:], 8, lambda: None)
        assert balanced(await settled(api, MEMBERS + MORE))
        async with asyncio.timeout(60):
            for member, unit in moved.items():
                while await seats(api, member) != [unit]:  # noqa: ASYNC110 (it is in MongoDB)
                    await asyncio.sleep(0.2)
        at = await places(stack.kafka)
        assert any(p.number >= BEFORE for m in newcomers for p in at[m.member_id]), (
            "the new partitions are in use"
        )
        assert any(len(set(at[member])) == 2 for member in moved), "keys have moved"


def balanced(lines: Sequence[Line]) -> bool:
    return all(line.balances for line in lines)


async def move(api: Api, member: str, units: Sequence[str]) -> str:
    """Move to another unit, which is returned."""
    path = f"/v1/members/{member}"
    now = (await api.get("members", path))["unit"]
    unit = next(code for code in reversed(units) if code != now)
    answer = await api.send("POST", "members", f"{path}/move", json={"unit": unit})
    assert answer.status_code == 200, answer.text
    return unit


async def seats(api: Api, member: str) -> list[str]:
    """The units of the member's groups."""
    return [seat["unit"] for seat in (await api.get("groups", f"/v1/members/{member}/groups"))["items"]]
