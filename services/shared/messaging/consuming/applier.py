"""The applier: applies a batch of records to the database, each exactly once.

The inbox ids are written in the transaction of the effect, so the effect happens once. A transient fault is
retried in place while the partitions wait. A permanent fault is isolated by bisecting the batch, and only the
record that causes it is dead-lettered.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import structlog
from pymongo.errors import ExecutionTimeout

from services.shared.clock import Clock
from services.shared.contracts.base import Envelope, Event
from services.shared.errors import PermanentError
from services.shared.faults import MAX_RETRIES, FaultFamily, backoff_seconds, classify, describe
from services.shared.loops import run_together, wait_first
from services.shared.messaging.bisection import bisect
from services.shared.messaging.broker import Partition, RebalancedError, Record
from services.shared.messaging.consuming.decoding import DecodedRecord, decode_record, ignored_type
from services.shared.messaging.consuming.fuse import Fuse, FuseOpenError
from services.shared.messaging.consuming.inbox import Inbox
from services.shared.messaging.consuming.sub_batches import (
    CONCURRENCY,
    ContentionError,
    LockedError,
    Split,
    Splitter,
    SubBatch,
)
from services.shared.messaging.consuming.waves import waves
from services.shared.messaging.dead_letters.store import DeadLetters, FailedRecord, letter_id
from services.shared.messaging.metrics import FOREIGN, OURS, MessagingMetrics
from services.shared.messaging.publishing.outbox import Outbox, UnitOfWork
from services.shared.messaging.spans import processing
from services.shared.observability import tracing
from services.shared.observability.tracing import Span

log = structlog.get_logger(__name__)

Handler = Callable[[Sequence[Envelope[Any]], UnitOfWork], Awaitable[None]]
"""Handles events of one type, with each subject at most once, inside the transaction of `UnitOfWork`."""
Subscriptions = Mapping[type[Event], Handler]


MAX_TIMEOUTS: Final = 3
"""How often a single event may exceed the deadline while the database is quick, before it is to blame."""
PROBE_SECONDS: Final = 1.0
TURN_SECONDS: Final = 0.02
"""How long decoding may keep the event loop."""


class StoppedError(Exception):
    """The consumer is stopping and could not apply its batch; the batch will be delivered again."""


class _TooSlowError(Exception):
    """A transaction exceeded its deadline; on a slow database, the whole batch might do so every time."""


class _FailedError(Exception):
    """No retry helps. The exception's cause is the fault of the last of `attempts`."""

    def __init__(self, attempts: int) -> None:
        super().__init__(attempts)
        self.attempts = attempts


class Applier:
    """Applies batches. Outside a consumer (in tests), nothing stops it and every partition counts as
    assigned."""

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
        metrics: MessagingMetrics,
        splitter: Splitter,
    ) -> None:
        self.group = group
        self.topics = sorted({event.topic for event in subscriptions})
        self.traced: str | None = None
        """The id of a recorded trace of the last batch."""
        self._handlers = subscriptions
        self._outbox = outbox
        self._inbox = inbox
        self._dead_letters = dead_letters
        self._fuse = fuse
        self._clock = clock
        self._metrics = metrics.consumer
        self._buried = metrics.dead_letters.buried
        self._splitter = splitter
        self._stop = asyncio.Event()
        self._assignment: Callable[[], Container[Partition]] | None = None

    def bind(self, stop: asyncio.Event, assignment: Callable[[], Container[Partition]]) -> None:
        """Give up when `stop` is set, and give up a batch when one of its partitions is no longer
        assigned."""
        self._stop, self._assignment = stop, assignment

    @property
    def batches_per_fetch(self) -> int:
        """How many ordinary batches to fetch at once."""
        return self._splitter.batches_per_fetch

    async def apply(self, records: Sequence[Record]) -> None:
        """Apply every record exactly once, or dead-letter it.

        Raises: `FuseOpenError`, `StoppedError`, `RebalancedError`; the offsets must then not be committed.
        """
        self.traced = None
        if decoded := await self._decode_all(records):
            with tracing.spans(self._begin_spans(decoded)) as spans:
                self.traced = next((span.trace_id for span in spans.values()), None)
                begun = [d.under(spans.get(letter_id(d.record))) for d in decoded] if spans else decoded
                await self._apply_all(self._split(begun))

    def _split(self, records: Sequence[DecodedRecord]) -> Split[DecodedRecord]:
        return self._splitter.split(records, lambda record: record.envelope)

    def _begin_spans(self, records: Sequence[DecodedRecord]) -> Iterator[tuple[str, Span]]:
        for decoded in records:
            if decoded.envelope and (span := processing(self.group, decoded.record, decoded.envelope)):
                yield letter_id(decoded.record), span

    async def _decode_all(self, records: Sequence[Record]) -> list[DecodedRecord]:
        """Decode, and let the event loop turn in between: what others wrote may take long to refuse."""
        decoded, now, began = [], self._clock.now(), time.perf_counter()
        for record in records:
            one = self._decode(record, now)
            if one is not None:
                decoded.append(one)
            if time.perf_counter() - began > TURN_SECONDS:
                await asyncio.sleep(0)
                began = time.perf_counter()
        return decoded

    def _decode(self, record: Record, now: datetime) -> DecodedRecord | None:
        """The decoded record; None when this service ignores its type."""
        if (ignored := ignored_type(record, self._handlers)) is None:
            return decode_record(record, now)
        self._metrics.events.labels(ignored, "ignored").inc()
        return None

    async def _apply_all(self, split: Split[DecodedRecord]) -> None:
        await run_together(
            [self._apply_concurrently(split) for _ in range(min(CONCURRENCY, len(split.concurrent)))]
        )
        for sub_batch in split.last:
            await self._apply(sub_batch)

    async def _apply_concurrently(self, split: Split[DecodedRecord]) -> None:
        """Apply one sub-batch after another until none is left."""
        waiting, locked = split.concurrent, 0
        while waiting:
            sub_batch = waiting.popleft()
            if sub_batch.lock and self._stop.is_set():
                raise StoppedError  # the inbox has the ids of the sub-batches already applied
            try:
                await self._apply(sub_batch)
                locked = 0
            except ContentionError:
                self._splitter.note_contention()
                again = self._split(sub_batch.records)
                waiting.extendleft(again.concurrent)
                split.last.extend(again.last)
            except LockedError:
                waiting.append(sub_batch)
                locked += 1
                if locked >= len(waiting):
                    await self._pause(backoff_seconds(0))
            except BaseException:
                waiting.clear()  # the concurrent run finishes its present sub-batch and takes no other
                raise

    async def _apply(self, sub_batch: SubBatch[DecodedRecord]) -> None:
        """Apply a sub-batch in one transaction: retry transient faults, halve it when too slow, isolate
        permanent failures.

        Raises: `LockedError` when another process holds this sub-batch; `ContentionError` when it should be
        split. Half of it may then be applied already; the inbox has its ids.
        """

        async def attempt(records: Sequence[DecodedRecord]) -> None:
            await self._apply_or_fail(sub_batch._replace(records=records))

        await bisect(
            sub_batch.records,
            attempt,
            self._isolate,
            splits=lambda e: isinstance(e, _FailedError | _TooSlowError),
        )

    async def _apply_or_fail(self, sub_batch: SubBatch[DecodedRecord]) -> None:
        """Raises: `_FailedError`, `_TooSlowError`, and the errors that end the batch."""
        failures: Counter[FaultFamily] = Counter()
        blamed = 0
        while True:
            try:
                await self._transact(sub_batch)
                return
            except (FuseOpenError, LockedError, ContentionError):
                raise
            except Exception as error:
                family = classify(error)
                failures[family] += 1
                attempt = failures.total()
                if failures[family] > MAX_RETRIES[family]:
                    raise _FailedError(attempt) from error
                late = isinstance(error, TimeoutError | ExecutionTimeout)
                self._metrics.retries.labels(family.value).inc()
                log.warning(
                    "consumer.retrying", family=family.value, error=type(error).__name__, attempt=attempt
                )
            await self._pause(backoff_seconds(attempt))
            self._check_assignment(sub_batch.records)
            if late and len(sub_batch.records) > 1:
                raise _TooSlowError
            if late:
                blamed = blamed + 1 if await self._outbox.commits_within(PROBE_SECONDS) else 0
                if blamed == MAX_TIMEOUTS:
                    raise _FailedError(attempt) from PermanentError("too_slow")

    async def _isolate(self, decoded: DecodedRecord, error: Exception) -> None:
        """Dead-letter the one record that fails."""
        assert isinstance(error, _FailedError)  # a single record is retried, never reported as too slow
        cause, attempts = error.__cause__ or error, error.attempts
        reason, detail = describe(cause)
        log.error("consumer.dead_letter", letter=letter_id(decoded.record), reason=reason, detail=detail)
        is_event = decoded.envelope is not None
        failed = FailedRecord(decoded.record, reason, detail, attempts, decodable=is_event, ours=is_event)

        async def bury(work: UnitOfWork) -> Sequence[FailedRecord]:
            if not await self._fresh([decoded], work):
                return ()
            await self._inbox.add([decoded.inbox_id], self._clock.now(), work.session)
            return await self._dead_letters.bury(work, [failed])

        while True:
            try:
                buried = await self._outbox.transact(bury)
                if decoded.span:
                    decoded.span.end(error=reason)
                await self._count_dead(buried)
                return
            except FuseOpenError:
                raise
            except Exception as failure:
                if classify(failure) is FaultFamily.PERMANENT:
                    raise
                log.warning(
                    "consumer.retrying", error=type(failure).__name__, letter=letter_id(decoded.record)
                )
            await self._pause(backoff_seconds(attempts))

    async def _transact(self, sub_batch: SubBatch[DecodedRecord]) -> None:
        """One transaction: handlers, inbox ids, staged events, and letters for records that did not decode or
        that a handler refused."""

        runs = 0

        async def body(work: UnitOfWork) -> tuple[list[DecodedRecord], Sequence[FailedRecord]]:
            nonlocal runs
            runs += 1
            if runs > 1 and sub_batch.splittable:
                raise ContentionError
            if sub_batch.lock is not None:
                await self._splitter.lock(sub_batch.lock, work.session)
            fresh = await self._fresh(sub_batch.records, work)
            for wave in waves([d.envelope for d in fresh if d.envelope]):
                for kind, events in wave.items():
                    await self._handlers[kind](events, work)
            if work.refused:
                fresh = [decoded.judged(work.refused) for decoded in fresh]
            await self._inbox.add([d.inbox_id for d in fresh], self._clock.now(), work.session)
            dead = [
                FailedRecord(
                    d.record, d.reason, d.detail, decodable=d.envelope is not None, set_aside=d.set_aside
                )
                for d in fresh
                if d.is_dead
            ]
            return fresh, await self._dead_letters.bury(work, dead)

        fresh, buried = await self._outbox.transact(body)
        if runs > 1:
            self._splitter.note_contention()
        self._count(sub_batch.records, fresh)
        await self._count_dead(buried)

    async def _fresh(self, records: Sequence[DecodedRecord], work: UnitOfWork) -> list[DecodedRecord]:
        """The records that are neither applied yet nor discarded as letters, each once."""
        discarded = await self._dead_letters.discarded([d.record for d in records], work.session)
        by_id: dict[str, DecodedRecord] = {}
        for decoded in records:
            if not (discarded and letter_id(decoded.record) in discarded):
                by_id.setdefault(decoded.inbox_id, decoded)
        seen = await self._inbox.seen(list(by_id), work.session)
        return [decoded for id_, decoded in by_id.items() if id_ not in seen]

    async def _pause(self, seconds: float) -> None:
        """Raises: `StoppedError` when stopping before or during the pause."""
        await wait_first(self._stop, timeout=seconds)
        if self._stop.is_set():
            raise StoppedError

    def _check_assignment(self, records: Sequence[DecodedRecord]) -> None:
        """Leave the batch to its new owners when a rebalance took some of its partitions away during a pause.

        Dropping only those partitions would lose their records: if a partition came back before the commit,
        its offset would be committed too. The rest is delivered again, because after a rebalance reading
        starts at the committed offsets.

        Raises: `RebalancedError`.
        """
        if self._assignment is None:
            return
        ours = self._assignment()
        if any(decoded.record.partition not in ours for decoded in records):
            raise RebalancedError

    def _count(self, records: Sequence[DecodedRecord], fresh: Sequence[DecodedRecord]) -> None:
        applied = [d.envelope for d in fresh if d.envelope and not d.is_dead]
        for type_, count in Counter(event.type for event in applied).items():
            self._metrics.events.labels(type_, "applied").inc(count)
        if len(records) > len(fresh):
            self._metrics.events.labels("any", "duplicate").inc(len(records) - len(fresh))
        if applied:
            oldest = min(event.time for event in applied)
            self._metrics.delay.observe(max(0.0, (self._clock.now() - oldest).total_seconds()))
            self._fuse.count(alive=len(applied))

    async def _count_dead(self, buried: Sequence[FailedRecord]) -> None:
        """Count new letters. Only events on which our own code failed count for the fuse.

        Raises: `FuseOpenError`.
        """
        for failed in buried:
            self._metrics.events.labels("any", "set_aside" if failed.set_aside else "dead").inc()
            if not failed.set_aside:
                self._buried.labels(failed.reason, OURS if failed.ours else FOREIGN).inc()
        ours = sum(failed.ours for failed in buried)
        if ours and self._fuse.count(dead=ours):
            await self._fuse.trip()
            raise FuseOpenError
