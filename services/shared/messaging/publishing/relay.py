"""The relay: publishes the outbox in order, in batches, and deletes the rows that the broker acknowledged.

A crash between acknowledgement and deletion publishes a row twice and loses nothing; the subscribers' inboxes
drop the second copy. What cannot be published is set aside, aloud, and holds back nothing but its own subject
or topic (`set_aside`).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import structlog

from services.shared.database import Document, Lease, in_snapshot
from services.shared.errors import TransientError
from services.shared.loops import Pace, Turn, poll_loop
from services.shared.messaging.broker import PUBLISH_SECONDS, Broker, Producer, Refusal
from services.shared.messaging.metrics import MessagingMetrics
from services.shared.messaging.publishing.outbox import Outbox, message_of
from services.shared.messaging.publishing.set_aside import SetAside
from services.shared.messaging.spans import record_sent

log = structlog.get_logger(__name__)

PACE = Pace(shortest=0.02, longest=1.0)
"""Polling for rows that other processes of the service staged; this process's own rows wake the relay at
once. Pauses double, so a row waits hardly longer than the outbox has been empty."""
GAUGE_SECONDS = 1.0
SET_ASIDE_GAUGE_SECONDS = 5.0
PROBE_SECONDS = 10.0
"""An idle relay asks the broker for a sign of life this often."""
RETRY_SECONDS = 2.0
"""Most time that another try of set-aside rows may take from all other rows."""


class Relay:
    def __init__(
        self, outbox: Outbox, broker: Broker, lease: Lease, metrics: MessagingMetrics, *, max_batch: int
    ) -> None:
        self._outbox = outbox
        self._broker = broker
        self._lease = lease
        self._metrics = metrics.relay
        self._broker_metrics = metrics.broker
        self._aside = SetAside(outbox, metrics.relay)
        self._max_batch = max_batch
        self._producer: Producer | None = None
        self._empty_at = -math.inf
        """When the outbox was last found empty (`time.monotonic`)."""
        self._probed_at = -math.inf

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop`, then drain the outbox until the caller's deadline cancels it."""
        self._broker_metrics.expect("produce")
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
        await asyncio.gather(
            poll_loop("outbox-gauges", self.gauge, stop, Pace.every(GAUGE_SECONDS)),
            poll_loop("outbox-gauges", self._gauge_set_aside, stop, Pace.every(SET_ASIDE_GAUGE_SECONDS)),
        )

    async def _turn(self) -> Turn:
        rows = await self.publish_batch()
        if not rows and self._lease.held:
            await self._probe()
        return Turn.of(rows, self._max_batch)

    async def _probe(self) -> None:
        """Notice a dead broker also while there is nothing to publish."""
        if time.monotonic() - self._probed_at >= PROBE_SECONDS:
            await (await self._connected()).probe()
            self._probed_at = time.monotonic()

    async def publish_batch(self) -> int:
        """Publish and delete one batch; set aside those of its rows that cannot be published.

        Returns the number of rows, 0 also when another process holds the lease.

        Raises: `TransientError` when the broker left some rows unanswered; they stay.
        """
        if not await self._leads():
            return 0
        if self._aside.due:
            await self._retry()
            if not await self._leads():
                return 0
        rows = await self._next_rows()
        if not rows:
            self._empty_at = time.monotonic()
            return 0
        if free := await self._aside.without(rows) if self._aside.any else rows:
            refused = await self._publish(free, PUBLISH_SECONDS)
            await self._aside.add(free, refused)
            _check_answered(refused)
        return len(rows)

    async def _leads(self) -> bool:
        leading = await self._lease.hold()
        self._metrics.leader.set(leading)
        if not leading:
            self._aside.forget()
        return leading

    async def _retry(self) -> None:
        """Try the set-aside rows again, or rather the first of each subject and topic."""
        if heads := await self._aside.heads():
            refused = await self._publish(heads, RETRY_SECONDS)
            await self._aside.tried(heads, refused)

    async def _publish(self, rows: Sequence[Document], seconds: float) -> Mapping[int, Refusal]:
        """Publish rows and delete those that the broker acknowledged; returns the others by index."""
        refused = await (await self._connected()).publish([message_of(row) for row in rows], seconds)
        sent = [row for i, row in enumerate(rows) if i not in refused] if refused else rows
        if sent:
            record_sent(sent)
            await self._outbox.rows.delete_many({"_id": {"$in": [row["_id"] for row in sent]}})
            for topic, count in Counter(row["topic"] for row in sent).items():
                self._metrics.published.labels(topic).inc(count)
            self._metrics.batch_size.observe(len(sent))
        return refused

    async def _connected(self) -> Producer:
        if self._producer is None:
            self._producer = await self._broker.producer()
        return self._producer

    async def _next_rows(self) -> list[Document]:
        """The oldest rows, sorted by sequence within each subject.

        Ids sort by the clocks of the processes that created them, and those clocks differ. A snapshot
        contains all rows that any visible row was built on, so sorting by sequence restores the order within
        the batch. If there is more than one batch, or any row is set aside, the other rows of its subjects
        are fetched too, so that no later event overtakes an earlier one.
        """
        rows, query = in_snapshot(self._outbox.rows), self._aside.others()
        batch = await rows.find(query).sort("_id", 1).limit(self._max_batch).to_list(None)
        await self._aside.scanned(query, batch[0] if batch else None)
        if len(batch) == self._max_batch or (batch and self._aside.any):
            subjects = list({row["subject"] for row in batch})
            # With any id: since the first query, a process with a slow clock may have added a row, and others
            # may build on it.
            in_hand = [row["_id"] for row in batch]
            batch += await rows.find({"subject": {"$in": subjects}, "_id": {"$nin": in_hand}}).to_list(None)
        return sorted(batch, key=lambda row: (row["topic"], row["subject"], row["sequence"]))

    async def gauge(self) -> Turn:
        if time.monotonic() - self._empty_at < PACE.longest + GAUGE_SECONDS and not self._aside.any:
            self._metrics.outbox_rows.set(0)  # the relay has just checked
            self._metrics.outbox_age.set(0.0)
            return Turn.NOTHING
        self._metrics.outbox_rows.set(await self._outbox.rows.estimated_document_count())
        query = self._aside.others()
        oldest = await self._outbox.rows.find_one(query, {"at": 1}, sort=[("_id", 1)])
        await self._aside.scanned(query, oldest)
        age = (self._outbox.clock.now() - oldest["at"]).total_seconds() if oldest else 0.0
        self._metrics.outbox_age.set(max(0.0, age))
        return Turn.NOTHING

    async def _gauge_set_aside(self) -> Turn:
        await self._aside.gauge()
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


def _check_answered(refused: Mapping[int, Refusal]) -> None:
    """Raises: `TransientError`, so that the loop waits before it tries the unanswered rows again."""
    unanswered = sum(why is Refusal.UNANSWERED for why in refused.values())
    if unanswered:
        raise TransientError(f"the broker left {unanswered} rows unanswered")
