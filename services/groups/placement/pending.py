"""Pending placements: members whose unit is not known yet are placed when it comes.

A unit that was created by this process wakes the loop at once. The regular look covers units created by
another process, and a unit that was committed while a member of it was being made to wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from services.groups.core.core import Core
from services.groups.core.domain import PlacementState
from services.groups.core.seating.drafts import Review
from services.groups.core.seating.service import ChangeRequest
from services.groups.placement.store import PlacementStore
from services.shared.faults import describe, may_pass
from services.shared.loops import Pace, Turn, poll_loop
from services.shared.messaging import Origin, UnitOfWork, bisect

log = structlog.get_logger(__name__)

LOOP: Final = "waiting-room"
"""Its name in logs and metrics, unchanged since the first release."""
BATCH: Final = 500


class PendingPlacements:
    def __init__(self, core: Core, store: PlacementStore) -> None:
        self._core = core
        self._store = store
        self._unplaceable: set[str] = set()
        """Members whose placement failed for good in this process."""

    async def run(self, stop: asyncio.Event) -> None:
        pace = Pace.every(self._core.settings.waiting_room_seconds)
        await poll_loop(LOOP, self._turn, stop, pace, wake=self._core.new_units)

    async def _turn(self) -> Turn:
        if await self.place_batch() or await self.promote():
            return Turn.MORE
        count, oldest = await self._store.count_waiting()
        self._core.metrics.show_waiting(count, oldest, self._core.runtime.server_clock.now())
        return Turn.NOTHING

    async def place_batch(self) -> int:
        """Place up to `BATCH` waiting members whose unit exists now; how many."""
        by_placement = await self._store.waiting_units()
        by_list = {unit for unit, _ in await self._core.seats.waited_for(PlacementState.WAITING_UNIT)}
        codes = {*by_placement, *by_list}
        known = await self._core.store.live_units(codes) if codes else {}
        if not known:
            return 0

        passing = self._unplaceable
        waiting = await self._store.waiting_members(known, BATCH, passing=passing)
        listed = await self._core.seats.waiting_members(by_list & known.keys(), BATCH) if by_list else []
        waiting = list(dict.fromkeys([*waiting, *(id_ for id_ in listed if id_ not in passing)]))[:BATCH]
        if waiting:
            await bisect(waiting, self._place, self._pass_over, splits=lambda error: not may_pass(error))
        return len(waiting)

    async def promote(self) -> int:
        """Give seats that are free to the first who wait for one; how many got one. Mostly the transaction
        that frees a seat has done so; this is for caps that were raised, and for two that crossed."""
        pairs = await self._core.seats.waited_for(PlacementState.WAITING_SEAT)

        async def body(work: UnitOfWork) -> int:
            return await self._core.seating.promote(pairs[:BATCH], work, Origin.here())

        return await self._core.runtime.outbox.transact(body) if pairs else 0

    async def _place(self, waiting: Sequence[str]) -> None:
        """Place those that still wait for a unit, in one transaction."""

        async def body(work: UnitOfWork) -> None:
            now = await self._core.store.placements(waiting, work.session)
            requests = [
                ChangeRequest(Review(each.member_id), Origin.here())
                for each in now.values()
                if any(seat.state is PlacementState.WAITING_UNIT for seat in each.held)
            ]
            await self._core.seating.apply(requests, work)

        await self._core.runtime.outbox.transact(body)

    async def _pass_over(self, waiting: str, error: Exception) -> None:
        """Leave one that cannot be placed where it is, until this process is started again: an earlier
        release may have taken an id that no event can carry."""
        reason, detail = describe(error)
        log.error("placement.impossible", member=waiting, reason=reason, detail=detail)
        self._unplaceable.add(waiting)
