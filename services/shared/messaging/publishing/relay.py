"""The relay: publishes the outbox in order, in batches, and deletes the rows that the broker acknowledged.

A crash between acknowledgement and deletion publishes a row twice and loses nothing; the subscribers' inboxes
drop the second copy.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter

import structlog

from services.shared.database import Document, Lease, in_snapshot
from services.shared.loops import Pace, Turn, poll_loop
from services.shared.messaging.broker import Broker, Producer
from services.shared.messaging.metrics import MessagingMetrics
from services.shared.messaging.publishing.outbox import Outbox, message_of
from services.shared.messaging.spans import record_sent

log = structlog.get_logger(__name__)

PACE = Pace(shortest=0.02, longest=1.0)
"""Polling for rows that other processes of the service staged; this process's own rows wake the relay at
once. Pauses double, so a row waits hardly longer than the outbox has been empty."""
GAUGE_SECONDS = 1.0


class Relay:
    def __init__(
        self, outbox: Outbox, broker: Broker, lease: Lease, metrics: MessagingMetrics, *, max_batch: int
    ) -> None:
        self._outbox = outbox
        self._broker = broker
        self._lease = lease
        self._metrics = metrics.relay
        self._max_batch = max_batch
        self._producer: Producer | None = None
        self._empty_at = -math.inf
        """When the outbox was last found empty (`time.monotonic`)."""

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop`, then drain the outbox until the caller's deadline cancels it."""
        try:
            await poll_loop(
                "relay",
                self._turn,
                stop,
                PACE,
                wake=self._outbox.staged,
                on_retry=self._metrics.errors.inc,
            )
            while await self.publish_batch():
                pass
        finally:
            await self._close()

    async def watch(self, stop: asyncio.Event) -> None:
        """Update the outbox's gauges until `stop`. A separate loop, because publishing may hang or fail for
        long."""
        await poll_loop("outbox-gauges", self.gauge, stop, Pace.every(GAUGE_SECONDS))

    async def _turn(self) -> Turn:
        return Turn.of(await self.publish_batch(), self._max_batch)

    async def publish_batch(self) -> int:
        """Publish and delete one batch. Returns the number of rows, 0 also when another process holds the
        lease.

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
        record_sent(rows)
        await self._outbox.rows.delete_many({"_id": {"$in": [row["_id"] for row in rows]}})
        for topic, count in Counter(row["topic"] for row in rows).items():
            self._metrics.published.labels(topic).inc(count)
        self._metrics.batch_size.observe(len(rows))
        return len(rows)

    async def _next_rows(self) -> list[Document]:
        """The oldest rows, sorted by sequence within each subject.

        Ids sort by the clocks of the processes that created them, and those clocks differ. A snapshot
        contains all rows that any visible row was built on, so sorting by sequence restores the order within
        the batch. If there is more than one batch, the other rows of its subjects are fetched too, so that no
        later event overtakes an earlier one.
        """
        rows = in_snapshot(self._outbox.rows)
        batch = await rows.find().sort("_id", 1).limit(self._max_batch).to_list(None)
        if len(batch) == self._max_batch:
            subjects = list({row["subject"] for row in batch})
            # With any id: since the first query, a process with a slow clock may have added a row, and others
            # may build on it.
            in_hand = [row["_id"] for row in batch]
            batch += await rows.find({"subject": {"$in": subjects}, "_id": {"$nin": in_hand}}).to_list(None)
        return sorted(batch, key=lambda row: (row["topic"], row["subject"], row["sequence"]))

    async def gauge(self) -> Turn:
        if time.monotonic() - self._empty_at < PACE.longest + GAUGE_SECONDS:  # the relay has just checked
            self._metrics.outbox_rows.set(0)
            self._metrics.outbox_age.set(0.0)
            return Turn.NOTHING
        rows, age = await self._outbox.waiting()
        self._metrics.outbox_rows.set(rows)
        self._metrics.outbox_age.set(age)
        return Turn.NOTHING

    async def _close(self) -> None:
        self._metrics.leader.set(0)
        if self._producer is not None:
            await self._producer.stop()
            self._producer = None
        try:
            await self._lease.release()
        except Exception as error:
            log.warning("relay.lease_not_released", error=type(error).__name__)
