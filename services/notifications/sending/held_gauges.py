"""Gauges of the notifications that wait, and of the breakers that are open."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from services.notifications.core.core import Core
from services.notifications.sending.store import QueueStore
from services.shared.loops import Pace, Turn, poll_loop

EVERY_SECONDS: Final = 15.0


class HeldGauges:
    def __init__(self, core: Core, senders: Sequence[str] = ()) -> None:
        self._queue = QueueStore(core.runtime.database)
        self._clock = core.clock
        self._metrics = core.metrics
        self._breakers = core.breakers
        self._senders = senders

    async def run(self, stop: asyncio.Event) -> None:
        await poll_loop("held-gauges", self.read, stop, Pace.every(EVERY_SECONDS))

    async def read(self) -> Turn:
        self._metrics.show_held(await self._queue.held(), self._clock.now())
        if self._senders:
            self._metrics.show_breakers(await self._breakers.count(), self._senders)
        return Turn.NOTHING
