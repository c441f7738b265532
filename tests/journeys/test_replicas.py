"""Three processes of every service share the work; one of each is killed, and the books balance."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.local.demo.api import Api
from infra.local.demo.arrivals import Accepted, Arrivals
from infra.local.demo.invites import InviteLinks
from infra.local.demo.people import people
from infra.local.demo.tree import codes
from infra.local.services import SERVICES, replicas
from infra.local.stack import LocalStack
from tests.journeys.joining import import_units
from tests.journeys.test_kill import settled

JOINS = 240
REPLICAS = 3
MEMBERS = replicas("members", REPLICAS)


@pytest.fixture
async def own_stack(tmp_path: Path) -> AsyncIterator[LocalStack]:
    env = {"notifications": {"SANGATHAN_CLAIM_SECONDS": "10"}}
    three = dict.fromkeys(SERVICES, REPLICAS)
    async with LocalStack(tmp_path, replicas=three, env=env) as stack:
        yield stack


@pytest.mark.heavy
@pytest.mark.timeout(400)
async def test_one_of_three_replicas_of_every_service_may_die(own_stack: LocalStack) -> None:
    stack = own_stack
    async with Api(stack.urls, stack.token, connections=24) as api:
        tree = await import_units(api)
        links = InviteLinks(api)
        giving = asyncio.create_task(links.keep_giving())
        answers = Threshold(JOINS // 3)
        crowd = list(people(JOINS, codes(tree), 7))
        doors = [
            asyncio.create_task(through(stack, name, crowd[n::REPLICAS], answers))
            for n, name in enumerate(MEMBERS)
        ]
        await answers.reached.wait()
        struck = answers.count
        for service in SERVICES:
            stack.processes[f"{service}-2"].kill()
        by_door = await asyncio.gather(*doors)
        await stack.wait_ready(120)
        lines = await settled(api, JOINS)
        giving.cancel()

        assert struck < JOINS, "the blows fell after the last join"
        assert [len(accepted) for accepted in by_door] == [JOINS // REPLICAS] * REPLICAS
        assert len({a.member_id for accepted in by_door for a in accepted}) == JOINS
        assert all(line.balances for line in lines), lines
        assert {n: child.restarts for n, child in stack.processes.items() if child.restarts} == {
            f"{service}-2": 1 for service in SERVICES
        }
        await check_that_work_was_shared(api)


class Threshold:
    """Counts answers; sets `reached` at `wanted`."""

    def __init__(self, wanted: int) -> None:
        self.count, self._wanted, self.reached = 0, wanted, asyncio.Event()

    def told(self) -> None:
        self.count += 1
        if self.count >= self._wanted:
            self.reached.set()


async def through(
    stack: LocalStack, name: str, crowd: list[dict[str, object]], answers: Threshold
) -> list[Accepted]:
    """Register the crowd at one replica of members."""
    async with Api({"members": stack.urls[name]}, stack.token, connections=8) as door:
        arrivals = Arrivals(door)
        accepted = await arrivals.rush(crowd, 8, answers.told)
        assert arrivals.already == 0
        return accepted


async def check_that_work_was_shared(api: Api) -> None:
    """Check that replicas shared the work: one without a partition would prove nothing by its failure."""
    for service in SERVICES:
        if service == "members":
            continue
        handled = [
            (await api.metrics(name)).get("sangathan_consumer_events_total", 0)
            for name in replicas(service, REPLICAS)
        ]
        assert sum(1 for events in handled if events) >= 2, (service, handled)
