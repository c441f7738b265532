"""The applier: what a batch of records does to the database, each of them once.

The effect happens once, because the inbox ids are written in the transaction of the effect. A transient fault is
retried in place while the partitions wait. A permanent one is isolated by bisecting the batch, and only the record
that causes it is dead-lettered.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Iterator, Mapping, Sequence
from typing import Any

import structlog

from services.shared import tracing
from services.shared.clock import Clock
from services.shared.contracts.base import Envelope, Event
from services.shared.eventkit.broker import Partition, RebalancedError, Record
from services.shared.eventkit.dead_letters import DeadLetters, Death, letter_id
from services.shared.eventkit.errors import MOST_RACES, Verdict, backoff_seconds, classify, describe
from services.shared.eventkit.fuse import Fuse, FuseOpenError
from services.shared.eventkit.inbox import Inbox
from services.shared.eventkit.items import Item, ignored_as, read
from services.shared.eventkit.loops import first, together
from services.shared.eventkit.metrics import EventkitMetrics
from services.shared.eventkit.outbox import Outbox, UnitOfWork
from services.shared.eventkit.parts import LANES, BusyError, Cut, MetError, Part, Parts
from services.shared.eventkit.spans import processing
from services.shared.eventkit.waves import waves
from services.shared.tracing import Span

log = structlog.get_logger(__name__)

Handler = Callable[[Sequence[Envelope[Any]], UnitOfWork], Awaitable[None]]
"""Handles a batch of one event type in which each subject occurs once, inside the transaction it is given."""
Subscriptions = Mapping[type[Event], Handler]


class StoppedError(Exception):
    """Stopping, with a batch in hand that could not be applied; it will be delivered again."""


class Applier:
    """Outside a consumer (tests) nothing stops it and every partition is its own."""

    def __init__(
        self,
        *,
        group: str,
        subscriptions: Subscriptions,
        outbox: Outbox,
        inbox: Inbox,
        dead_letters: DeadLetters,
        fuse: Fuse,
        clock: Clock,
        metrics: EventkitMetrics,
        parts: Parts,
    ) -> None:
        self.group = group
        self.topics = sorted({event.topic for event in subscriptions})
        self.traced: str | None = None
        """A recorded trace of the last batch."""
        self._handlers = subscriptions
        self._outbox = outbox
        self._inbox = inbox
        self._dead_letters = dead_letters
        self._fuse = fuse
        self._clock = clock
        self._metrics = metrics.consumer
        self._buried = metrics.dead_letters.buried
        self._parts = parts
        self._stop = asyncio.Event()
        self._assignment: Callable[[], Container[Partition]] | None = None

    def heed(self, stop: asyncio.Event, assignment: Callable[[], Container[Partition]]) -> None:
        """From now on give up when `stop` is set, and a batch of which a partition is no longer assigned."""
        self._stop, self._assignment = stop, assignment

    @property
    def stretch(self) -> int:
        """How many ordinary batches to fetch at once."""
        return self._parts.stretch

    async def apply(self, records: Sequence[Record]) -> None:
        """Apply every record exactly once or dead-letter it.

        Raises: `FuseOpenError`, `StoppedError`, `RebalancedError`; the offsets must then not be committed.
        """
        self.traced = None
        items = []
        for record in records:
            item = self._read(record)
            if item is not None:
                items.append(item)
        if items:
            with tracing.spans(self._begun(items)) as spans:
                self.traced = next((span.trace_id for span in spans.values()), None)
                begun = [i.under(spans.get(letter_id(i.record))) for i in items] if spans else items
                await self._apply_all(self._cut(begun))

    def _cut(self, items: Sequence[Item]) -> Cut[Item]:
        return self._parts.cut(items, lambda item: item.envelope)

    def _begun(self, items: Sequence[Item]) -> Iterator[tuple[str, Span]]:
        for item in items:
            if item.envelope and (span := processing(self.group, item.record, item.envelope)):
                yield letter_id(item.record), span

    def _read(self, record: Record) -> Item | None:
        """Decode a record; None when its type is not ours to handle."""
        if (ignored := ignored_as(record, self._handlers)) is None:
            return read(record)
        self._metrics.events.labels(ignored, "ignored").inc()
        return None

    async def _apply_all(self, cut: Cut[Item]) -> None:
        await together([self._lane(cut) for _ in range(min(LANES, len(cut.parts)))])
        for part in cut.last:
            await self._apply(part)

    async def _lane(self, cut: Cut[Item]) -> None:
        """Apply one part after the other until none is left."""
        parts, busy = cut.parts, 0
        while parts:
            part = parts.popleft()
            if part.lock and self._stop.is_set():
                raise StoppedError  # a batch of many parts need not be finished: what is applied of it is in the inbox
            try:
                await self._apply(part)
                busy = 0
            except MetError:
                self._parts.met()
                again = self._cut(part.items)
                parts.extendleft(again.parts)
                cut.last.extend(again.last)
            except BusyError:
                parts.append(part)
                busy += 1
                if busy >= len(parts):
                    await self._pause(backoff_seconds(0))
            except BaseException:
                parts.clear()  # the other lane finishes what it is at, and takes no more
                raise

    async def _apply(self, part: Part[Item]) -> None:
        """Apply in one transaction; retry what time cures, halve what takes too long, bisect what time does not cure.

        Raises: `BusyError` when another process is at this part, `MetError` when it is better cut; half of it may then be
        applied, which the inbox knows.
        """
        attempt = 0
        while True:
            try:
                await self._transact(part)
                return
            except (FuseOpenError, BusyError, MetError):
                raise
            except Exception as error:
                verdict = classify(error)
                if verdict is Verdict.PERMANENT or (verdict is Verdict.RACE and attempt >= MOST_RACES):
                    await self._isolate(part, error, attempt + 1)
                    return
                attempt += 1
                late = isinstance(error, TimeoutError)
                self._metrics.retries.labels(verdict.value).inc()
                log.warning(
                    "consumer.retrying", family=verdict.value, error=type(error).__name__, attempt=attempt
                )
            await self._pause(backoff_seconds(attempt))
            self._check_ours(part.items)
            if late and len(part.items) > 1:
                # Whole it might outlast its deadline again and again, on a database that is merely slow.
                await self._apply_halves(part)
                return

    async def _apply_halves(self, part: Part[Item]) -> None:
        middle = len(part.items) // 2
        await self._apply(part._replace(items=part.items[:middle]))
        await self._apply(part._replace(items=part.items[middle:]))

    async def _isolate(self, part: Part[Item], error: Exception, attempts: int) -> None:
        """Halve the batch, in order, until the record that fails stands alone."""
        if len(part.items) > 1:
            await self._apply_halves(part)
            return
        reason, detail = describe(error)
        item = part.items[0]
        log.error("consumer.dead_letter", letter=letter_id(item.record), reason=reason, detail=detail)

        death = Death(item.record, reason, detail, attempts, decodable=item.envelope is not None)

        async def bury(work: UnitOfWork) -> bool:
            if not await self._fresh([item], work):
                return False
            await self._inbox.add([item.inbox_id], self._clock.now(), work.session)
            await self._dead_letters.bury(work, [death])
            return True

        while True:
            try:
                if await self._outbox.transact(bury):
                    if item.span:
                        item.span.end(error=reason)
                    await self._count_dead([reason])
                return
            except FuseOpenError:
                raise
            except Exception as failure:
                if classify(failure) is Verdict.PERMANENT:
                    raise
                log.warning("consumer.retrying", error=type(failure).__name__, letter=letter_id(item.record))
            await self._pause(backoff_seconds(attempts))

    async def _transact(self, part: Part[Item]) -> None:
        """One transaction: handlers, inbox ids, staged events, and the letters of what did not decode."""

        runs = 0

        async def body(work: UnitOfWork) -> list[Item]:
            nonlocal runs
            runs += 1
            if runs > 1 and part.cuttable:
                raise MetError
            if part.lock is not None:
                await self._parts.hold(part.lock, work.session)
            fresh = await self._fresh(part.items, work)
            for wave in waves([i.envelope for i in fresh if i.envelope]):
                for kind, events in wave.items():
                    await self._handlers[kind](events, work)
            await self._inbox.add([i.inbox_id for i in fresh], self._clock.now(), work.session)
            undecodable = [Death(i.record, i.reason, i.detail) for i in fresh if not i.envelope]
            await self._dead_letters.bury(work, undecodable)
            return fresh

        fresh = await self._outbox.transact(body)
        if runs > 1:
            self._parts.met()
        self._count(part.items, fresh)
        await self._count_dead([item.reason for item in fresh if not item.envelope])

    async def _fresh(self, items: Sequence[Item], work: UnitOfWork) -> list[Item]:
        """The items that are not done yet, each once."""
        by_id: dict[str, Item] = {}
        for item in items:
            by_id.setdefault(item.inbox_id, item)
        seen = await self._inbox.seen(list(by_id), work.session)
        return [item for id_, item in by_id.items() if id_ not in seen]

    async def _pause(self, seconds: float) -> None:
        """Raises: `StoppedError` when stopping, before or during the pause."""
        await first(self._stop, timeout=seconds)
        if self._stop.is_set():
            raise StoppedError

    def _check_ours(self, items: Sequence[Item]) -> None:
        """Leave the batch to its new owners when a rebalance took a part of it away while we waited.

        Dropping that part alone would lose it: if the partition came back before the commit, its offset would be
        committed too. What is still ours is delivered again, since a rebalance starts at the committed offsets.

        Raises: `RebalancedError`.
        """
        if self._assignment is None:
            return
        ours = self._assignment()
        if any(item.record.partition not in ours for item in items):
            raise RebalancedError

    def _count(self, items: Sequence[Item], fresh: Sequence[Item]) -> None:
        applied = [i.envelope for i in fresh if i.envelope]
        for type_, count in Counter(event.type for event in applied).items():
            self._metrics.events.labels(type_, "applied").inc(count)
        if len(items) > len(fresh):
            self._metrics.events.labels("any", "duplicate").inc(len(items) - len(fresh))
        if applied:
            oldest = min(event.time for event in applied)
            self._metrics.delay.observe(max(0.0, (self._clock.now() - oldest).total_seconds()))
            self._fuse.count(alive=len(applied))

    async def _count_dead(self, reasons: Sequence[str]) -> None:
        for reason in reasons:
            self._buried.labels(reason).inc()
            self._metrics.events.labels("any", "dead").inc()
        if reasons and self._fuse.count(dead=len(reasons)):
            await self._fuse.trip()
            raise FuseOpenError
