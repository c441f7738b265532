"""The loops of erasures: what is due by MongoDB's clock, and the contacts that are not needed any more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Gauge

from services.members.core.contacts import Contacts
from services.members.core.domain import UNDO_MERGE_WITHIN, Contact
from services.members.core.erasures import ErasureStore
from services.members.core.metrics import MembersMetrics
from services.members.erasure.service import Erasures
from services.members.erasure.store import RetentionStore
from services.shared.database import ServerClock
from services.shared.encryption import Ciphertext
from services.shared.faults import may_pass
from services.shared.loops import Pace, Turn, poll_loop
from services.shared.runtime.slow_gauges import Reading

log = structlog.get_logger(__name__)

DUE: Final = "erasures"
RETENTION: Final = "retention"
PACE: Final = Pace(0.5, 10.0)
RETENTION_PACE: Final = Pace(1.0, 600.0)
BATCH: Final = 100
NOBODY: Final = Contact("")
"""In the place of a contact that was destroyed."""


class DueErasures:
    """Several processes may do the same at once: whoever comes second finds nothing due."""

    def __init__(self, erasures: Erasures, store: ErasureStore, clock: ServerClock) -> None:
        self._erasures = erasures
        self._store = store
        self._clock = clock

    async def run(self, stop: asyncio.Event) -> None:
        await poll_loop(DUE, self.turn, stop, PACE)

    async def turn(self) -> Turn:
        due = await self._store.due(self._clock.now(), BATCH)
        for erasure_id in due:
            try:
                await self._erasures.settle(erasure_id)
            except Exception as error:
                if may_pass(error):
                    raise
                log.error("erasure.not_settled", erasure=erasure_id, error=type(error).__name__)
        return Turn.SOME if due else Turn.NOTHING


class Retention:
    """Destroys the contacts of members who left, and of those who were merged for good: whose merge cannot be
    undone any more. A bounded batch at a time."""

    def __init__(
        self,
        store: RetentionStore,
        contacts: Contacts,
        clock: ServerClock,
        metrics: MembersMetrics,
        keep: timedelta,
    ) -> None:
        self._store = store
        self._contacts = contacts
        self._clock = clock
        self._dropped = metrics.left_contacts_dropped
        self._keep = keep

    async def run(self, stop: asyncio.Event) -> None:
        await poll_loop(RETENTION, self.turn, stop, RETENTION_PACE)

    async def turn(self) -> Turn:
        now = self._clock.now()
        before = now - self._keep
        left = await self._store.left_before(before, BATCH)
        self._dropped.inc(await self._store.drop_left(await self._empty(left), before))
        for_good = now - UNDO_MERGE_WITHIN
        merged = await self._store.merged_before(for_good, BATCH)
        self._dropped.inc(await self._store.drop_merged(await self._empty(merged), for_good))
        return Turn.of(max(len(left), len(merged)), BATCH)

    async def _empty(self, member_ids: Sequence[str]) -> list[tuple[str, Ciphertext]]:
        sealed = await self._contacts.seal([(member_id, NOBODY) for member_id in member_ids])
        return [(member_id, each.ciphertext) for member_id, each in zip(member_ids, sealed, strict=True)]


def overdue(store: ErasureStore, clock: ServerClock, registry: CollectorRegistry, late: timedelta) -> Reading:
    gauge = Gauge(
        "sangathan_members_erasures_overdue_seconds",
        "Seconds by which the oldest erasure that a service has not acknowledged is late; 0 if none is.",
        registry=registry,
    )

    async def read() -> None:
        oldest = await store.oldest_open()
        gauge.set(max(0.0, (clock.now() - oldest - late).total_seconds()) if oldest else 0)

    return read
