"""The relay: publishes the outbox in order, in batches, and deletes what the broker acknowledged.

A row is deleted only after its acknowledgement, so a crash in between publishes it twice and loses nothing;
the subscribers' inboxes drop the second copy.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter

import structlog

from services.shared.eventkit.broker import Broker, Producer
from services.shared.eventkit.errors import Verdict, backoff_seconds, classify
from services.shared.eventkit.lease import Lease
from services.shared.eventkit.loops import first
from services.shared.eventkit.metrics import EventkitMetrics
from services.shared.eventkit.outbox import Outbox, message_of
from services.shared.eventkit.spans import sent
from services.shared.mongo import Document, in_snapshot

log = structlog.get_logger(__name__)

POLL_MIN_SECONDS = 0.02
POLL_MAX_SECONDS = 1.0
"""How long an idle relay lets rows wait that another process of this service staged; our own wake it at once. Pauses double, so
a row never waits much longer than it has been quiet."""
GAUGE_SECONDS = 1.0


class Relay:
    def __init__(
        self, outbox: Outbox, broker: Broker, lease: Lease, metrics: EventkitMetrics, *, max_batch: int
    ) -> None:
        self._outbox = outbox
        self._broker = broker
        self._lease = lease
        self._metrics = metrics.relay
        self._max_batch = max_batch
        self._producer: Producer | None = None
        self._empty_at = -math.inf
        """When it last found the outbox empty (`time.monotonic`)."""

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop`, then what is left if it can be had before the caller's deadline."""
        pause, failures = POLL_MIN_SECONDS, 0
        try:
            while not stop.is_set():
                try:
                    published = await self.publish_batch()
                    failures = 0
                except Exception as error:
                    if classify(error) is Verdict.PERMANENT:
                        raise
                    self._metrics.errors.inc()
                    log.warning("relay.retrying", error=type(error).__name__, failures=failures)
                    failures += 1
                    await first(stop, timeout=backoff_seconds(failures))
                    continue
                pause = POLL_MIN_SECONDS if published else min(POLL_MAX_SECONDS, pause * 2)
                if published < self._max_batch:
                    await first(stop, self._outbox.staged, timeout=pause)
                    self._outbox.staged.clear()
            while await self.publish_batch():
                pass
        finally:
            await self._close()

    async def watch(self, stop: asyncio.Event) -> None:
        """Show until `stop` how much waits and since when: a loop of its own, since publishing may hang or fail for long."""
        while not stop.is_set():
            try:
                await self.gauge()
            except Exception as error:
                if classify(error) is Verdict.PERMANENT:
                    raise
                log.warning("relay.outbox_unread", error=type(error).__name__)
            await first(stop, timeout=GAUGE_SECONDS)

    async def publish_batch(self) -> int:
        """Publish and delete one batch; the number of rows, 0 also when the lease is another's.

        Raises: `TransientError` when the broker did not acknowledge everything; the rows stay.
        """
        leading = await self._lease.hold()
        self._metrics.leader.set(leading)
        if not leading:
            return 0
        rows = await self._next_rows()
        if not rows:
            self._empty_at = time.monotonic()
            return 0
        if self._producer is None:
            self._producer = await self._broker.producer()
        await self._producer.publish([message_of(row) for row in rows])
        sent(rows)
        await self._outbox.rows.delete_many({"_id": {"$in": [row["_id"] for row in rows]}})
        for topic, count in Counter(row["topic"] for row in rows).items():
            self._metrics.published.labels(topic).inc(count)
        self._metrics.batch_size.observe(len(rows))
        return len(rows)

    async def _next_rows(self) -> list[Document]:
        """The oldest rows, each subject's in the order of its sequence.

        Ids sort by the clocks of the processes that made them, and two replicas' clocks differ. A snapshot holds
        whatever a visible row was built on, so sorting by sequence mends the order inside the batch; when there is
        more than a batch, the rest of the same subjects is fetched too, lest a later event go first.
        """
        rows = in_snapshot(self._outbox.rows)
        batch = await rows.find().sort("_id", 1).limit(self._max_batch).to_list(None)
        if len(batch) == self._max_batch:
            subjects = list({row["subject"] for row in batch})
            # Whatever their ids: a row of a slow clock may have come since, and what was built on it too.
            in_hand = [row["_id"] for row in batch]
            batch += await rows.find({"subject": {"$in": subjects}, "_id": {"$nin": in_hand}}).to_list(None)
        return sorted(batch, key=lambda row: (row["topic"], row["subject"], row["sequence"]))

    async def gauge(self) -> None:
        if time.monotonic() - self._empty_at < POLL_MAX_SECONDS + GAUGE_SECONDS:  # it has just looked
            self._metrics.outbox_rows.set(0)
            self._metrics.outbox_age.set(0.0)
            return
        self._metrics.outbox_rows.set(await self._outbox.rows.estimated_document_count())
        oldest = await self._outbox.rows.find_one({}, {"at": 1}, sort=[("_id", 1)])
        age = (self._outbox.clock.now() - oldest["at"]).total_seconds() if oldest else 0.0
        self._metrics.outbox_age.set(max(0.0, age))

    async def _close(self) -> None:
        self._metrics.leader.set(0)
        if self._producer is not None:
            await self._producer.stop()
            self._producer = None
        try:
            await self._lease.release()
        except Exception as error:
            log.warning("relay.lease_not_released", error=type(error).__name__)
