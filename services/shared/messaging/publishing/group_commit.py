"""Group commit: concurrent requests share one transaction, as a database's commits share one fsync.

A transaction costs a journal write and a majority wait. While one batch commits, the next one gathers, so
there is no timer, and a lone request never waits.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from services.shared.errors import TransientError
from services.shared.faults import FaultFamily, classify
from services.shared.messaging.bisection import bisect
from services.shared.messaging.metrics import MessagingMetrics

WORTH_ANOTHER: Final = 32
"""Waiting writes that justify the fixed cost of a second transaction at the same time."""

Write = TypeVar("Write")
Result = TypeVar("Result")


class GroupCommit(Generic[Write, Result]):
    """Collects writes into shared transactions. `commit` applies a list of writes in one transaction and
    returns a result for each, or raises for all.

    `writers` is the number of concurrent transactions: the process prepares one while mongod works on
    another. Further writers start only when the first cannot keep up. When a shared transaction fails
    permanently, it is halved until the bad write fails alone.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Write]], Awaitable[Sequence[Result]]],
        metrics: MessagingMetrics,
        *,
        max_batch: int = 256,
        writers: int = 1,
    ) -> None:
        self._commit = commit
        self._metrics = metrics
        self._max_batch = max_batch
        self._writers = writers
        self._waiting: deque[tuple[Write, asyncio.Future[Result]]] = deque()
        self._busy = 0
        """Writers that will still take waiting writes. Not the size of `_running`: a finished task leaves
        that set only after its callers have run, and a write they submit next would wait for a writer that
        has ended."""
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False

    async def submit(self, write: Write) -> Result:
        """Submit a write. On return it is durable on a majority.

        Raises: the error of `commit` for this write alone; `TransientError` after `close`.
        """
        if self._closed:
            raise TransientError("stopping")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((write, future))
        if self._busy == 0 or (self._busy < self._writers and self._worth_another()):
            self._busy += 1
            # A new context: a writer outlives the request that happens to start it.
            task = asyncio.create_task(self._write(), context=contextvars.Context())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return await future

    async def close(self) -> None:
        """Refuse new writes, and finish the accepted ones."""
        self._closed = True
        while self._running:
            await asyncio.gather(*self._running, return_exceptions=True)

    def _worth_another(self) -> bool:
        return len(self._waiting) >= WORTH_ANOTHER

    async def _write(self) -> None:
        try:
            while self._waiting and (self._busy == 1 or self._worth_another()):
                batch = [self._waiting.popleft() for _ in range(min(self._max_batch, len(self._waiting)))]
                self._metrics.commit_size.observe(len(batch))
                await self._settle(batch)
        finally:
            self._busy -= 1

    async def _settle(self, batch: Sequence[tuple[Write, asyncio.Future[Result]]]) -> None:
        async def attempt(some: Sequence[tuple[Write, asyncio.Future[Result]]]) -> None:
            results = await self._commit([write for write, _ in some])
            for (_, future), result in zip(some, results, strict=True):
                if not future.cancelled():  # if the caller has gone away, its write still stands
                    future.set_result(result)

        async def isolate(one: tuple[Write, asyncio.Future[Result]], error: Exception) -> None:
            if not one[1].cancelled():
                one[1].set_exception(error)

        try:
            # A transient fault hits all writes alike: tried separately, each would wait for it in turn.
            await bisect(batch, attempt, isolate, splits=lambda e: classify(e) is not FaultFamily.TRANSIENT)
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
