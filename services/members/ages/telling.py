"""The loop that publishes what the events do not tell yet about ages: who came of age, and minors who were
registered by a release that told nothing.

A batch is one transaction. What is left to do follows from the members themselves, so a process that dies in
between loses and repeats nothing.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from services.members.ages.store import AgeStore
from services.members.core.changing import tell_age
from services.members.core.core import Core
from services.shared.loops import Pace, Turn, poll_loop
from services.shared.messaging import Origin, UnitOfWork

log = structlog.get_logger(__name__)

LOOP: Final = "ages"
PACE: Final = Pace(0.1, 60.0)
BATCH: Final = 200


class AgeTeller:
    def __init__(self, core: Core, store: AgeStore) -> None:
        self._core = core
        self._store = store

    async def run(self, stop: asyncio.Event) -> None:
        """Raises: a fault that does not pass, for the supervisor to log and restart."""
        await poll_loop(LOOP, self._turn, stop, PACE)

    async def _turn(self) -> Turn:
        return Turn.of(await self.tell_batch(), BATCH)

    async def tell_batch(self) -> int:
        """How many members there were to tell about."""
        clock = self._core.runtime.server_clock
        if not await self._store.untold(clock.now(), 1):
            return 0

        async def body(work: UnitOfWork) -> int:
            now = clock.now()
            members = await self._store.untold(now, BATCH, work.session)
            steps = [tell_age(member, now) for member in members]
            await self._store.save([step.state for step in steps], work.session)
            for step in steps:
                work.stage_all(step.events, Origin.here())
            return len(members)

        told = await self._core.runtime.outbox.transact(body)
        self._core.metrics.changes.labels("aged").inc(told)
        log.info("ages.told", count=told)
        return told
