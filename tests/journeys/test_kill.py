"""Each service is killed once, with SIGKILL, in the middle of 500 joins; afterwards the books balance."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.local.demo.api import Api
from infra.local.demo.arrivals import Arrivals
from infra.local.demo.books import balance
from infra.local.demo.invites import InviteLinks
from infra.local.demo.lines import Line
from infra.local.demo.people import people
from infra.local.demo.tree import codes, read_tree
from infra.local.services import SERVICES
from infra.local.stack import LocalStack
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.catalogue import EVENTS
from services.shared.contracts.vocabulary import Purpose
from services.shared.messaging import KafkaBroker, decode
from tests.fixtures.patience import Patience

JOINS = 500
AT_ONCE = 32
STRIKE_SECONDS = 60
SETTLE_SECONDS = 90


@pytest.fixture
async def own_stack(tmp_path: Path) -> AsyncIterator[LocalStack]:
    """A stack with 20 seats per group, so that groups overflow during the kills, and short claims, so that
    they expire."""
    env = {
        "groups": {"SANGATHAN_GROUP_CAPACITY": "20"},
        "notifications": {"SANGATHAN_CLAIM_SECONDS": "10"},
    }
    async with LocalStack(tmp_path, env=env) as stack:
        yield stack


@pytest.mark.heavy
@pytest.mark.timeout(240)
async def test_a_sigkill_of_every_service_loses_nothing_and_doubles_nothing(own_stack: LocalStack) -> None:
    stack = own_stack
    async with Api(stack.urls, stack.token, connections=AT_ONCE + 8) as api:
        tree = read_tree()
        answer = await api.send(
            "POST", "groups", "/v1/units/imports", content=tree.encode(), headers={"content-type": "text/csv"}
        )
        assert answer.status_code == 200, answer.text
        links = InviteLinks(api)
        giving = asyncio.create_task(links.keep_giving())
        arrivals = Arrivals(api)
        # Count answers, not time: a slow machine may not have answered anybody yet.
        due = {name: JOINS * nth // (len(SERVICES) + 1) for nth, name in enumerate(SERVICES, start=1)}
        reached = {name: asyncio.Event() for name in SERVICES}
        answered = 0

        def told() -> None:
            nonlocal answered
            answered += 1
            for name, count in due.items():
                if answered >= count:
                    reached[name].set()

        joining = asyncio.create_task(arrivals.rush(people(JOINS, codes(tree), 7), AT_ONCE, told))
        struck = {}
        for name in SERVICES:
            await asyncio.wait_for(reached[name].wait(), STRIKE_SECONDS)
            struck[name] = answered
            stack.processes[name].kill()
        accepted = await joining
        await stack.wait_ready()
        lines = await settled(api, len(accepted))
        giving.cancel()
        await links.give()

        assert {name: stack.processes[name].restarts for name in SERVICES} == dict.fromkeys(SERVICES, 1)
        assert all(0 < n < JOINS for n in struck.values()), f"a blow fell too early or too late: {struck}"
        # A 409 after a broken connection would be a member registered by its first request.
        assert arrivals.already == 0
        assert len(accepted) == len({a.member_id for a in accepted}) == JOINS
        assert all(line.balances for line in lines), lines
        full = [g async for g in api.pages("groups", "/v1/groups")]
        assert max(g["members"] for g in full) <= 20
    check_the_log(await the_log(stack), {a.member_id for a in accepted})


async def settled(api: Api, members: int) -> list[Line]:
    """The books once they balance for this many members and stay so, or as they are when nothing moves."""
    calm, patience = 0, Patience(SETTLE_SECONDS)
    while True:
        lines = await read(api)
        done = all(line.balances for line in lines) and set(lines[0].figures.values()) == {members}
        calm = calm + 1 if done else 0
        if calm == 3 or patience.ends(lines):
            return lines
        await asyncio.sleep(1)


async def read(api: Api) -> list[Line]:
    notes = [n async for n in api.pages("notifications", "/v1/notifications")]
    return balance(
        [m async for m in api.pages("members", "/v1/members", status="active")],
        [g async for g in api.pages("groups", "/v1/groups")],
        [n for n in notes if n["template"] == Purpose.WELCOME],
        await api.get("analytics", "/v1/overview"),
        others=[n for n in notes if n["template"] != Purpose.WELCOME],
    )


async def the_log(stack: LocalStack) -> list[Envelope[Event]]:
    broker = KafkaBroker(stack.kafka, client_id="test")
    consumer = await broker.consumer("test-log", sorted({e.topic for e in EVENTS}))
    events: list[Envelope[Event]] = []
    quiet = 0
    try:
        while quiet < 8:
            records = await consumer.fetch(2000, 0.25)
            quiet = 0 if records else quiet + 1
            events += [decode(record) for record in records]
    finally:
        await consumer.stop()
    return events


def check_the_log(events: list[Envelope[Event]], members: set[str]) -> None:
    """Each event may be in the log more than once, but has one effect, and no sequence has a gap."""
    by_id = {e.id: e for e in events}
    firsts = list(by_id.values())
    kinds = Counter(e.type for e in firsts)
    assert kinds["member.joined"] == JOINS
    assert {e.subject for e in firsts if e.type == "member.joined"} == members
    assert kinds["group.member_assigned"] == JOINS
    assert kinds["notification.sent"] + kinds["notification.suppressed"] == JOINS
    sequences: dict[tuple[str, str], list[int]] = {}
    for e in firsts:
        sequences.setdefault((e.data.topic, e.subject), []).append(e.sequence)
    for subject, numbers in sequences.items():
        assert numbers == list(range(1, len(numbers) + 1)), f"{subject}: {numbers}"
