"""The last seat of a group, taken by two transactions at once on a real MongoDB."""

from __future__ import annotations

import asyncio
from collections.abc import Collection as Many
from typing import Any

from services.groups.core.core import Core
from services.groups.core.seating.drafts import Change
from services.groups.core.seating.group_seats import GroupSeats, Pair
from services.groups.core.seating.service import ChangeRequest
from services.groups.core.seating.store import SeatStore
from services.groups.settings import GroupsSettings
from services.shared.database import Session
from services.shared.ids import new_id
from services.shared.messaging import Origin, UnitOfWork
from services.shared.runtime import Runtime
from tests.fixtures.apps import TRACEPARENT, Running
from tests.integration.groups.test_placement import UNIT, seats, tree

ROUNDS = 25
CAPACITY = 5


class MeetingStore(SeatStore):
    """Both racers have read the groups, each in its own snapshot, before either goes on to take a seat."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.barrier: asyncio.Barrier | None = None
        self.met: set[asyncio.Task[Any] | None] = set()

    async def seats(self, pairs: Many[Pair], left: Many[str], session: Session | None) -> list[GroupSeats]:
        found = await super().seats(pairs, left, session)
        racer = asyncio.current_task()
        if self.barrier is not None and racer not in self.met:  # one that runs again finds nobody to meet
            self.met.add(racer)
            await self.barrier.wait()
        return found


async def test_two_transactions_that_see_the_same_last_seat_both_place_and_never_over_capacity(
    groups: Running,
) -> None:
    await tree(groups, UNIT)
    settings = groups.runtime.settings
    assert isinstance(settings, GroupsSettings)
    core = Core(Runtime(settings), settings)
    store = MeetingStore(core.runtime.database)
    service = core.seating_in(store)
    runs = 0

    async def place(count: int) -> None:
        origin = Origin("test", TRACEPARENT)
        requests = [ChangeRequest(Change(new_id(), 1, UNIT), origin) for _ in range(count)]

        async def body(work: UnitOfWork) -> None:
            nonlocal runs
            runs += 1
            await service.apply(requests, work)

        await core.runtime.outbox.transact(body)

    await place(CAPACITY - 1)
    for number in range(1, ROUNDS + 1):
        runs, store.barrier = 0, asyncio.Barrier(2)
        await asyncio.gather(place(1), place(1))
        store.barrier = None
        assert runs > 2, "nobody had to run again: they did not race"
        assert [row[:2] for row in await seats(groups)] == [
            *((n, CAPACITY) for n in range(1, number + 1)),
            (number + 1, 1),
        ]
        await place(CAPACITY - 2)
    placed = groups.runtime.database["placements"]
    assert await placed.count_documents({"state": "assigned"}) == ROUNDS * CAPACITY + CAPACITY - 1
    core.runtime.close()
