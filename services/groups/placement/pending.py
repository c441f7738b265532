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
from services.groups.core.domain import Placement, PlacementState
from services.groups.placement.domain import Change
from services.groups.placement.service import ChangeRequest, PlacementService
from services.groups.placement.store import PlacementStore
from services.shared.faults import describe, may_pass
from services.shared.loops import Pace, Turn, poll_loop
from services.shared.messaging import Origin, UnitOfWork, bisect

log = structlog.get_logger(__name__)

LOOP: Final = "waiting-room"
"""Its name in logs and metrics, unchanged since the first release."""
BATCH: Final = 500


class PendingPlacements:
    def __init__(self, core: Core, store: PlacementStore, service: PlacementService) -> None:
        self._core = core
        self._store = store
        self._service = service
        self._unplaceable: set[str] = set()
        """Members whose placement failed for good in this process."""

    async def run(self, stop: asyncio.Event) -> None:
        pace = Pace.every(self._core.settings.waiting_room_seconds)
        await poll_loop(LOOP, self._turn, stop, pace, wake=self._core.new_units)

    async def _turn(self) -> Turn:
        if await self.place_batch():
            return Turn.MORE
        count, oldest = await self._store.count_waiting()
        self._core.metrics.show_waiting(count, oldest, self._core.runtime.server_clock.now())
        return Turn.NOTHING

    async def place_batch(self) -> int:
        """Place up to `BATCH` waiting members whose unit exists now; how many."""
        codes = await self._store.waiting_units()
        known = await self._core.store.live_units(codes) if codes else {}
        if not known:
            return 0

        waiting = await self._store.waiting_members(known, BATCH, passing=self._unplaceable)
        if waiting:
            await bisect(waiting, self._place, self._pass_over, splits=lambda error: not may_pass(error))
        return len(waiting)

    async def _place(self, waiting: Sequence[Placement]) -> None:
        """Place those that still wait for their unit, in one transaction."""

        async def body(work: UnitOfWork) -> None:
            ids = [each.member_id for each in waiting]
            now = await self._core.store.placements(ids, work.session)
            origin = Origin.here()
            requests = [
                ChangeRequest(Change(each.member_id, each.member_sequence, each.unit), origin)
                for each in now.values()
                if each.state is PlacementState.WAITING_UNIT
            ]
            await self._service.apply(requests, work, again=True)

        await self._core.runtime.outbox.transact(body)

    async def _pass_over(self, waiting: Placement, error: Exception) -> None:
        """Leave one that cannot be placed where it is, until this process is started again: an earlier
        release may have taken an id that no event can carry."""
        reason, detail = describe(error)
        log.error("placement.impossible", member=waiting.member_id, reason=reason, detail=detail)
        self._unplaceable.add(waiting.member_id)
