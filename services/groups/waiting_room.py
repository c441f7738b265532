"""Members whose unit is not known yet, placed when it comes.

A hint (a unit was just created here) wakes the loop at once; the regular look covers units created by another
instance, and the unit that was committed while a member of it was being made to wait.
"""

from __future__ import annotations

import asyncio

import structlog

from services.groups.domain import Change
from services.groups.metrics import GroupsMetrics
from services.groups.placing import Asked, Placing
from services.groups.store import Store
from services.shared.faults import FaultFamily, classify
from services.shared.loops import first
from services.shared.messaging import Origin, Outbox, UnitOfWork

log = structlog.get_logger(__name__)

BATCH = 500


class WaitingRoom:
    def __init__(
        self, store: Store, placing: Placing, outbox: Outbox, metrics: GroupsMetrics, *, seconds: float
    ) -> None:
        self._store = store
        self._placing = placing
        self._outbox = outbox
        self._metrics = metrics
        self._seconds = seconds
        self._hinted = asyncio.Event()

    def hint(self) -> None:
        self._hinted.set()

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._hinted.clear()
            try:
                while not stop.is_set() and await self.place_some():
                    pass
                self._metrics.waiting.set(await self._store.count_waiting())
            except Exception as error:
                if classify(error) is FaultFamily.PERMANENT:
                    raise
                log.warning("waiting_room.retrying", error=type(error).__name__)
            await first(stop, self._hinted, timeout=self._seconds)

    async def place_some(self) -> int:
        """Place up to `BATCH` waiting members whose unit exists now; how many."""
        waiting = await self._store.waiting_units()
        known = list(await self._store.units(waiting)) if waiting else []
        if not known:
            return 0

        async def body(work: UnitOfWork) -> int:
            members = await self._store.waiting_members(known, BATCH, work.session)
            origin = Origin.here()
            asked = [Asked(Change(m.member_id, m.member_sequence, m.unit), origin) for m in members]
            await self._placing.apply(asked, work, again=True)
            return len(members)

        return await self._outbox.transact(body)
