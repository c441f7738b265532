"""The batch consumer: fetches records, applies them, commits their offsets.

Delivery is at least once; the applier makes the effect happen exactly once.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from services.shared.clock import Clock
from services.shared.errors import TransientError
from services.shared.faults import FaultFamily, backoff_seconds, classify
from services.shared.loops import Pace, Turn, poll_loop, wait_first
from services.shared.messaging.broker import Broker, Consumer, RebalancedError
from services.shared.messaging.consuming.applier import Applier, StoppedError
from services.shared.messaging.consuming.decoding import first_offsets
from services.shared.messaging.consuming.fuse import Fuse, FuseOpenError
from services.shared.messaging.consuming.lag import Lag
from services.shared.messaging.metrics import MessagingMetrics
from services.shared.observability.metrics import exemplar

log = structlog.get_logger(__name__)

FETCH_SECONDS = 0.5
FUSE_POLL_SECONDS = 1.0
MAX_FAILED_FETCHES = 3
"""Consecutive failed fetches before the consumer is restarted. When a restarting broker answers unexpectedly,
aiokafka stops its coordination for good; from then on every `getmany` raises, whatever the broker does."""
GAUGE_SECONDS = 1.0
LOOK_SECONDS = 10.0
PEEK_SECONDS = 5.0
"""Records that have waited for so long and were not fetched are looked at, to know since when they wait."""


class BatchConsumer:
    def __init__(
        self,
        *,
        applier: Applier,
        broker: Broker,
        fuse: Fuse,
        clock: Clock,
        metrics: MessagingMetrics,
        max_batch: int,
    ) -> None:
        self.applier = applier
        self.topics = applier.topics
        self._broker = broker
        self._fuse = fuse
        self._metrics = metrics.consumer
        self._lag = Lag(self.topics, clock, self._metrics)
        self._max_batch = max_batch
        self._consumer: Consumer | None = None
        self._stop = asyncio.Event()
        self._failed_fetches = 0
        self._fuse_read_at = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop`; then finish the present batch and commit its offsets.

        Raises, for the supervisor to log and restart: any permanent fault outside a batch; `TransientError`
        when fetches fail repeatedly, because only a new connection cures a client that has failed internally.
        """
        self._stop = stop
        self._failed_fetches = 0
        await self._fuse.refresh()
        self._metrics.partitions.set(len(self.topics))  # a lower bound until the broker reports the number
        self._consumer = await self._broker.consumer(self.applier.group, self.topics)
        self.applier.bind(stop, self._consumer.assignment)
        try:
            while not stop.is_set():
                await self._refresh_fuse()
                if self._fuse.open:
                    await wait_first(stop, timeout=FUSE_POLL_SECONDS)
                else:
                    await self._take(self._consumer)
        finally:
            consumer, self._consumer = self._consumer, None
            self._metrics.assigned.set(0)
            await consumer.stop()

    def stopped_by(self) -> str | None:
        """Why this consumer consumes nothing, or None."""
        if self._fuse.open:
            return "fuse open: too many dead letters"
        return None if self._consumer is not None else "not connected to the broker"

    async def _refresh_fuse(self) -> None:
        """Read the fuse's shared state once a second: another process may open it, an operator may close
        it."""
        now = asyncio.get_running_loop().time()
        if now - self._fuse_read_at < FUSE_POLL_SECONDS:
            return
        self._fuse_read_at = now
        try:
            await self._fuse.refresh()
        except Exception as error:
            if classify(error) is FaultFamily.PERMANENT:
                raise
            log.warning("consumer.fuse_unread", error=type(error).__name__)
        self._metrics.fuse_open.set(self._fuse.open)

    async def _take(self, consumer: Consumer) -> None:
        """Fetch one batch, apply it, commit its offsets."""
        try:
            records = await consumer.fetch(self._max_batch * self.applier.batches_per_fetch, FETCH_SECONDS)
        except TransientError as error:
            self._failed_fetches += 1
            log.warning("consumer.fetch_failed", error=str(error), failures=self._failed_fetches)
            if self._failed_fetches == MAX_FAILED_FETCHES:
                raise
            await wait_first(self._stop, timeout=backoff_seconds(5))
            return
        self._failed_fetches = 0
        if not records:
            return
        began = time.perf_counter()
        self._metrics.batch_size.observe(len(records))
        self._lag.fetched(records)
        try:
            await self.applier.apply(records)
            await consumer.commit({r.partition: r.offset + 1 for r in records})
            self._metrics.progress.set_to_current_time()
            self._lag.consumed(records)
        except FuseOpenError:
            log.error("consumer.fuse_opened")
            consumer.rewind(first_offsets(records))
        except StoppedError:
            log.info("consumer.stopped_with_batch_in_hand", records=len(records))
        except RebalancedError:
            log.info("consumer.rebalanced", records=len(records))
        except TransientError as error:
            # A later commit covers this one; after a restart before it, the inbox drops the duplicates.
            log.warning("consumer.commit_failed", error=str(error))
        self._metrics.batch_seconds.observe(time.perf_counter() - began, exemplar(self.applier.traced))

    async def watch(self, stop: asyncio.Event) -> None:
        """Update the gauges of lag and assignment until `stop`. A separate loop, because a fetch or a batch
        may hang or fail for long, and an open fuse stops both."""
        self._lag.begin()
        await poll_loop("consumer-gauges", self._look, stop, Pace.every(GAUGE_SECONDS))

    async def _look(self) -> Turn:
        consumer = self._consumer
        if consumer is None:
            return Turn.NOTHING
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                backlogs = await consumer.backlog()
                self._lag.looked(backlogs, consumer.assignment())
                self._metrics.assigned.set(len(consumer.assignment()) if self._consumer else 0)
                self._metrics.partitions.set(consumer.partitions())
                # While the fuse is open, nothing is fetched; a restart forgets since when records wait.
                if heads := self._lag.unseen(0.0 if self._fuse.open else PEEK_SECONDS):
                    self._lag.fetched((await self._broker.read(heads)).records)
        except (TransientError, TimeoutError) as error:
            log.warning("consumer.lag_unknown", error=str(error))
        return Turn.NOTHING
