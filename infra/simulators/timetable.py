"""Things that fall due: one heap and one task for a whole gateway, so that a message costs a push and no
timer."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
from collections.abc import Callable
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class Timetable(Generic[T]):
    """Hands what is due to `work`, all that fell due within one `tick` together, in the order of their times.

    `limit` bounds what waits; beyond it `add` answers False, and the item is dropped and counted.
    """

    def __init__(self, work: Callable[[list[T]], None], tick: float = 0.01, limit: int = 1_000_000) -> None:
        self._work, self._tick, self._limit = work, tick, limit
        self._heap: list[tuple[float, int, T]] = []
        self._number = 0
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._heap)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._heap.clear()

    def add(self, item: T, seconds: float) -> bool:
        """Hand `item` over after `seconds`."""
        if len(self._heap) >= self._limit:
            self.dropped += 1
            return False
        self._number += 1
        due = asyncio.get_running_loop().time() + seconds
        if not self._heap or due < self._heap[0][0]:
            self._changed.set()
        heapq.heappush(self._heap, (due, self._number, item))
        return True

    def hurry(self) -> None:
        """Hand over everything now, whatever its time."""
        items = [heapq.heappop(self._heap)[2] for _ in range(len(self._heap))]
        if items:
            self._work(items)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            if not self._heap:
                await self._changed.wait()
                continue
            # One tick is the least: it makes a batch of what falls due at nearly the same time.
            wait = max(self._heap[0][0] - loop.time(), self._tick)
            if wait > self._tick:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), wait)
                    continue
            else:
                await asyncio.sleep(wait)
            now, due = loop.time(), []
            while self._heap and self._heap[0][0] <= now:
                due.append(heapq.heappop(self._heap)[2])
            if due:
                try:
                    self._work(due)
                except Exception:
                    log.exception("a simulator could not send what was due")
