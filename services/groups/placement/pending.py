"""Pending placements: members whose unit is not known yet are placed when it comes.

A unit that was created by this process wakes the loop at once. The regular look covers units created by
another process, and a unit that was committed while a member of it was being made to wait.
"""

from __future__ import annotations

import asyncio
from typing import Final

from services.groups.core.core import Core
from services.groups.placement.domain import Change
from services.groups.placement.service import ChangeRequest, PlacementService
from services.groups.placement.store import PlacementStore
from services.shared.loops import Pace, Turn, poll_loop
from services.shared.messaging import Origin, UnitOfWork

LOOP: Final = "waiting-room"
"""Its name in logs and metrics, unchanged since the first release."""
BATCH: Final = 500


class PendingPlacements:
    def __init__(self, core: Core, store: PlacementStore, service: PlacementService) -> None:
        self._core = core
        self._store = store
        self._service = service

    async def run(self, stop: asyncio.Event) -> None:
        pace = Pace.every(self._core.settings.waiting_room_seconds)
        await poll_loop(LOOP, self._turn, stop, pace, wake=self._core.new_units)

    async def _turn(self) -> Turn:
        if await self.place_batch():
            return Turn.MORE
        count, oldest = await self._store.count_waiting()
        self._core.metrics.show_waiting(count, oldest, self._core.runtime.clock.now())
        return Turn.NOTHING

    async def place_batch(self) -> int:
        """Place up to `BATCH` waiting members whose unit exists now; how many."""
        waiting = await self._store.waiting_units()
        known = await self._core.store.units(waiting) if waiting else {}
        if not known:
            return 0

        async def body(work: UnitOfWork) -> int:
            members = await self._store.waiting_members(known, BATCH, work.session)
            origin = Origin.here()
            requests = [
                ChangeRequest(Change(m.member_id, m.member_sequence, m.unit), origin) for m in members
            ]
            await self._service.apply(requests, work, again=True)
            return len(members)

        return await self._core.runtime.outbox.transact(body)
