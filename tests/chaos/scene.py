"""The whole system under load, and the invariants that hold once it is quiet again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice, takewhile
from pathlib import Path

from infra.local.demo.api import Api
from infra.local.demo.arrivals import Accepted, Arrivals
from infra.local.demo.books import balance
from infra.local.demo.invites import InviteLinks
from infra.local.demo.lines import Line
from infra.local.demo.people import MOST, Person, people
from infra.local.stack import LocalStack
from infra.local.status import describe
from tests.chaos.ledger import Ledger

PER_SECOND = 20
LONGEST_SECONDS = 90
"""The longest that one fault may take, so that a run ends whatever happens."""
SETTLE_SECONDS = 120
CAPACITY = 20
UNITS = ["BR", *(f"BR-D{d}" for d in range(5)), *(f"BR-D{d}-B{b}" for d in range(5) for b in range(4))]
TREE = "code,level,name_en,name_hi\n" + "".join(
    f"{code},{('state', 'district', 'block')[code.count('-')]},{code},{code}\n" for code in UNITS
)

Strike = Callable[["Scene"], Awaitable[int]]
"""Makes the fault happen and end; returns how often it did. Raises: `AssertionError` when it did not."""


@dataclass(frozen=True)
class Row:
    """The result of one fault. `recovery` is in seconds from its end until the books balanced."""

    fault: str
    times: int
    accepted: int
    effects: int
    lost: int
    doubled: int
    recovery: float


@dataclass
class Scene:
    stack: LocalStack
    api: Api
    orders: Path
    chance: random.Random
    ledger: Ledger
    crowd: Iterator[Person]
    accepted: set[str] = field(default_factory=set)
    poisoned: int = 0
    """Bad records put into each topic so far."""
    rows: list[Row] = field(default_factory=list)

    async def suffer(self, fault: str, strike: Strike) -> Row:
        """Let members join at a steady pace, strike and end the fault, and wait until everything is at
        rest."""
        over, before = asyncio.Event(), set(self.accepted)
        joining = asyncio.create_task(self._join_until(over))
        try:
            await asyncio.sleep(self.chance.uniform(0.5, 1.5))
            times = await asyncio.wait_for(strike(self), LONGEST_SECONDS)
            ended = time.monotonic()
            await asyncio.sleep(1)
        finally:
            over.set()
            self.accepted |= {a.member_id for a in await joining}
        accepted = self.accepted - before
        await self.stack.wait_ready(90)
        lines = await self._settled()
        recovery = time.monotonic() - ended
        await self.ledger.caught_up()
        lost, doubled = self.ledger.lost(accepted), self.ledger.doubled()
        row = Row(
            fault, times, len(accepted), len(accepted - lost - doubled), len(lost), len(doubled), recovery
        )
        self.rows.append(row)
        assert all(line.balances for line in lines), [line for line in lines if not line.balances]
        return row

    async def letters(self, service: str) -> int:
        """The number of records that the service has dead-lettered."""
        total: int = (await self.api.get(service, "/v1/ops/dead-letters/summary"))["total"]
        return total

    async def lines(self) -> list[Line]:
        """The books of the demo: every service's own figures."""
        return balance(
            [m async for m in self.api.pages("members", "/v1/members", status="active")],
            [g async for g in self.api.pages("groups", "/v1/groups")],
            [n async for n in self.api.pages("notifications", "/v1/notifications")],
            await self.api.get("analytics", "/v1/overview"),
        )

    async def _join_until(self, over: asyncio.Event) -> list[Accepted]:
        arrivals = Arrivals(self.api)
        most = (LONGEST_SECONDS + 30) * PER_SECOND
        crowd = takewhile(lambda _: not over.is_set(), islice(self.crowd, most))
        accepted = await arrivals.walk(crowd, PER_SECOND, lambda: None)
        # A 409 would be a member whose first request, under the same key, was accepted but lost.
        assert arrivals.already == 0
        return accepted

    async def _settled(self) -> list[Line]:
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            total = (await self.api.get("analytics", "/v1/overview"))["members"]["total"]
            if total >= len(self.accepted) or time.monotonic() > deadline:
                lines = await self.lines()
                everybody = set(lines[0].figures.values()) == {len(self.accepted)}
                if (everybody and all(line.balances for line in lines)) or time.monotonic() > deadline:
                    return lines
            await asyncio.sleep(0.5)


@asynccontextmanager
async def scene(orders: Path, seed: int, stack: LocalStack) -> AsyncIterator[Scene]:
    """The scene on a running `stack`: the tree is loaded, and an admin gives every group its invite link."""
    async with Api(stack.urls, stack.token, connections=64) as api:
        headers = {"content-type": "text/csv"}
        answer = await api.send("POST", "groups", "/v1/units/imports", content=TREE.encode(), headers=headers)
        assert answer.status_code == 200, (answer.text, describe(stack))
        ledger = Ledger(stack.kafka)
        await ledger.start()
        giving = asyncio.create_task(InviteLinks(api).keep_giving())
        crowd = people(MOST // 4, UNITS, seed)
        try:
            yield Scene(stack, api, orders, random.Random(seed), ledger, crowd)
        finally:
            giving.cancel()
            await asyncio.wait({giving})
            await ledger.stop()
