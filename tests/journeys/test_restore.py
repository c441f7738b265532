"""A database is lost, restored from an older dump and completed from the log; afterwards the books balance.

The commands are those of docs/runbook.md, run as an operator runs them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from infra.local.demo.api import Api
from infra.local.demo.arrivals import Accepted, Arrivals
from infra.local.demo.invites import InviteLinks
from infra.local.demo.people import Person, people
from infra.local.demo.tree import codes, read_tree
from infra.local.services import SERVICES
from infra.local.stack import LocalStack
from services.shared.clock import SystemClock
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.notifications import NotificationSent
from tests.journeys.test_kill import settled, the_log
from tests.journeys.test_rebuild import command, figures

BEFORE, DURING, AFTER = 60, 30, 30
AT_ONCE = 8
PER_SECOND = 6.0
PROJECTIONS = ("groups", "notifications", "analytics")
EPOCH = datetime.fromtimestamp(0, UTC)


@pytest.fixture
async def own_stack(tmp_path: Path) -> AsyncIterator[LocalStack]:
    env = {
        "groups": {"SANGATHAN_GROUP_CAPACITY": "20"},
        "notifications": {"SANGATHAN_CLAIM_SECONDS": "10"},
    }
    async with LocalStack(tmp_path / "stack", env=env) as stack:
        yield stack


@pytest.fixture
async def api(own_stack: LocalStack) -> AsyncIterator[Api]:
    async with Api(own_stack.urls, own_stack.token, connections=AT_ONCE + 8) as api:
        headers = {"content-type": "text/csv"}
        tree = read_tree().encode()
        answer = await api.send("POST", "groups", "/v1/units/imports", content=tree, headers=headers)
        assert answer.status_code == 200, answer.text
        yield api


class Town:
    """The same people in the same order, who join on call."""

    def __init__(self, api: Api) -> None:
        self._people = list(people(BEFORE + DURING + AFTER, codes(read_tree()), 7))
        self._called = 0
        self.arrivals = Arrivals(api)
        self.api = api

    async def join(self, count: int) -> list[Accepted]:
        return await self.arrivals.rush(self._next(count), AT_ONCE, lambda: None)

    async def trickle(self, count: int) -> list[Accepted]:
        """Join over some seconds, as long as a dump takes."""
        return await self.arrivals.walk(self._next(count), PER_SECOND, lambda: None)

    async def join_once_more(self) -> list[Accepted]:
        return await self.arrivals.rush(self._people, AT_ONCE, lambda: None)

    def _next(self, count: int) -> list[Person]:
        self._called += count
        return self._people[self._called - count : self._called]

    async def move(self, member_ids: Iterable[str]) -> None:
        for member_id in member_ids:
            now = await self.api.get("members", f"/v1/members/{member_id}")
            unit = next(code for code in reversed(codes(read_tree())) if code != now["unit"])
            body = {"unit": unit}
            answer = await self.api.send("POST", "members", f"/v1/members/{member_id}/move", json=body)
            assert answer.status_code == 200, answer.text

    async def leave(self, member_ids: Iterable[str]) -> None:
        for member_id in member_ids:
            answer = await self.api.send("DELETE", "members", f"/v1/members/{member_id}")
            assert answer.status_code in (200, 204), answer.text


@asynccontextmanager
async def links_given(api: Api) -> AsyncIterator[None]:
    giving = asyncio.create_task(InviteLinks(api).keep_giving())
    try:
        yield
    finally:
        giving.cancel()
        with suppress(asyncio.CancelledError):
            await giving


async def run(stack: LocalStack, service: str, *words: str) -> str:
    status, said = await command(stack, service, *words)
    assert status == 0, said
    return said


async def restore(stack: LocalStack, dumps: Path, service: str) -> str:
    """The runbook's steps up to starting the service; returns the last command's output."""
    anew = ("--database", f"{service}2", "--group", f"{service}2")
    await run(stack, service, "restore", str(dumps / service), *anew, "--dry-run")
    await run(stack, service, "restore", str(dumps / service), *anew)
    return await run(stack, service, "rebuild", *anew, "--resume")


async def start(stack: LocalStack, service: str) -> None:
    anew = {"SANGATHAN_MONGO_DATABASE": f"{service}2", "SANGATHAN_CONSUMER_GROUP": f"{service}2"}
    await stack.start_again(service, anew)


def lose(stack: LocalStack, databases: Sequence[str]) -> None:
    with MongoClient[dict[str, Any]](stack.mongo) as client:
        for name in databases:
            client.drop_database(name)


def handed_over(stack: LocalStack, database: str, since: datetime = EPOCH) -> Counter[str]:
    """Messages handed to the sender, counted by member."""
    with MongoClient[dict[str, Any]](stack.mongo, tz_aware=True) as client:
        found = client[database]["recorded_messages"].find({"at": {"$gt": since}})
        return Counter(row["member_id"] for row in found)


def check_the_log(events: Sequence[Envelope[Event]]) -> Counter[str]:
    """Check that no effect happened twice and no two events share a number; returns the events by type."""
    firsts = list({e.id: e for e in events}.values())
    numbered = Counter((e.data.topic, e.subject, e.sequence) for e in firsts if "snapshot" not in e.type)
    assert not [place for place, n in numbered.items() if n > 1]
    seats = Counter(e.subject for e in firsts if e.type == "group.member_assigned")
    moves = Counter(e.subject for e in firsts if e.type == "member.moved")
    assert not {member: n for member, n in seats.items() if n > 1 + moves[member]}
    ends = ("notification.sent", "notification.suppressed", "notification.failed")
    ended = Counter(getattr(e.data, "member_id", "") for e in firsts if e.type in ends)
    assert set(ended.values()) == {1}
    return Counter(e.type for e in firsts)


@pytest.mark.heavy
@pytest.mark.timeout(500)
async def test_all_but_members_are_killed_and_lost_and_nobody_is_placed_or_welcomed_twice(
    own_stack: LocalStack, api: Api, tmp_path: Path
) -> None:
    stack, town = own_stack, Town(api)
    async with links_given(api):
        early = await town.join(BEFORE)
        # Dump running services, whose outboxes and consumers are at work.
        joining = asyncio.create_task(town.trickle(DURING))
        await asyncio.gather(*(run(stack, s, "dump", str(tmp_path / s)) for s in PROJECTIONS))
        during = await joining
        moved = {a.member_id for a in early[:3]}
        await town.move(moved)
        await town.leave(a.member_id for a in early[3:5])
        await settled(api, BEFORE + DURING - 2)
    joining = asyncio.create_task(town.join(AFTER))
    await asyncio.sleep(0.2)
    await asyncio.gather(*(stack.processes[service].stop(within=0) for service in PROJECTIONS))
    welcomed = handed_over(stack, "notifications")
    lose(stack, PROJECTIONS)
    lost_at = SystemClock().now()
    late = await joining

    for service in PROJECTIONS:
        assert f"SANGATHAN_CONSUMER_GROUP={service}2" in await restore(stack, tmp_path, service)
    for service in PROJECTIONS:
        await start(stack, service)
    async with links_given(api):
        lines = await settled(api, BEFORE + DURING + AFTER - 2)
    assert all(line.balances for line in lines), lines
    everyone = {a.member_id for a in (*early, *during, *late)}
    log = await the_log(stack)
    kinds = check_the_log(log)
    assert kinds["member.joined"] == len(everyone) == BEFORE + DURING + AFTER
    assert kinds["group.member_assigned"] == len(everyone) + len(moved)
    welcomed_again = handed_over(stack, "notifications2", since=lost_at)
    assert set((welcomed | welcomed_again).values()) == {1}
    told = {e.data.member_id for e in log if isinstance(e.data, NotificationSent) and e.time < lost_at}
    assert told
    assert not told & welcomed_again.keys(), "only what nobody heard of is sent again"


@pytest.mark.heavy
@pytest.mark.timeout(500)
async def test_after_all_databases_are_restored_only_later_joins_are_missing(
    own_stack: LocalStack, api: Api, tmp_path: Path
) -> None:
    stack, town = own_stack, Town(api)
    async with links_given(api):
        early = await town.join(BEFORE)
        joining = asyncio.create_task(town.trickle(DURING))
        await asyncio.gather(*(run(stack, s, "dump", str(tmp_path / s)) for s in SERVICES))
        during = await joining
        late = await town.join(AFTER)
        moved, left = {a.member_id for a in early[:3]}, {a.member_id for a in early[3:5]}
        await town.move(moved)
        await town.leave(left)
        lines = await settled(api, BEFORE + DURING + AFTER - len(left))
        assert all(line.balances for line in lines), lines
        live = await figures(api)
        welcomed = handed_over(stack, "notifications")
    await asyncio.gather(*(stack.processes[service].stop() for service in SERVICES))
    lose(stack, SERVICES)
    lost_at = SystemClock().now()

    for service in PROJECTIONS:
        await restore(stack, tmp_path, service)
    said = await restore(stack, tmp_path, "members")
    for service in PROJECTIONS:
        await start(stack, service)
    assert await figures(api) == live, "the log holds what the dumps do not"
    await start(stack, "members")
    known = {m["id"] async for m in api.pages("members", "/v1/members", status="active")}
    everyone = {a.member_id for a in (*early, *during, *late)}
    lost = everyone - known - left
    assert {a.member_id for a in late} <= lost <= {a.member_id for a in (*during, *late)}
    assert f"{len(lost)} who joined after the dump are lost" in said
    async with links_given(api):
        lines = await settled(api, len(known))
        assert all(line.balances for line in lines), lines
        again = await town.join_once_more()
        assert len(again) == len(lost) + len(left)
        await town.move(list(moved)[:1])
        lines = await settled(api, len(everyone))
        assert all(line.balances for line in lines), lines
    kinds = check_the_log(await the_log(stack))
    assert kinds["member.joined"] == len(everyone) + len(again)
    assert kinds["member.left"] == len(left) + len(lost)
    welcomed_again = handed_over(stack, "notifications2", since=lost_at)
    assert set((welcomed | welcomed_again).values()) == {1}
    assert welcomed_again
    assert not welcomed.keys() & welcomed_again.keys()
