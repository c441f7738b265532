"""Asking gateways about messages of which they have not told the end: callbacks get lost."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import timedelta
from typing import Final

import structlog

from services.notifications.core.channel import Gateways
from services.notifications.core.core import Core
from services.notifications.core.deliveries.applying import Applied
from services.notifications.core.deliveries.domain import DeliveryRecord
from services.notifications.core.updates import Asked
from services.shared.errors import TransientError
from services.shared.loops import Pace, Turn, poll_loop
from services.shared.messaging import UnitOfWork

log = structlog.get_logger(__name__)

PACE: Final = Pace(shortest=1.0, longest=15.0)
AT_ONCE: Final = 50


class GatewayPolls:
    """Replicas work side by side: each first writes when a message is asked about next."""

    def __init__(self, core: Core, gateways: Gateways) -> None:
        self._gateways = gateways
        self._asked = [each.name for each in gateways.by_channel.values() if each.polls]
        self._deliveries = core.deliveries
        self._reports = core.reports
        self._outbox = core.runtime.outbox
        self._clock = core.clock
        self._first = timedelta(minutes=core.settings.poll_minutes)

    async def run(self, stop: asyncio.Event) -> None:
        await poll_loop("gateway-polls", self.poll, stop, PACE)

    async def poll(self) -> Turn:
        """Ask about a batch of those that are due."""
        if not self._asked:
            return Turn.NOTHING
        now = self._clock.now()
        due = await self._deliveries.due(now, self._asked, AT_ONCE)
        mine: dict[str, list[DeliveryRecord]] = defaultdict(list)
        for record in due:
            if await self._deliveries.ask(record.polled(now, self._first), record.poll_at):
                mine[record.sender].append(record)
        for sender, records in mine.items():
            await self._ask(sender, records)
        return Turn.of(len(due), AT_ONCE)

    async def _ask(self, sender: str, records: list[DeliveryRecord]) -> None:
        gateway = self._gateways.named(sender)
        assert gateway is not None
        now = self._clock.now()
        try:
            reports = await gateway.poll([Asked(r.id, r.provider_id, now) for r in records])
        except TransientError as error:  # each is asked about again at its next time
            log.warning("polls.unanswered", sender=sender, error=type(error).__name__)
            return

        async def body(work: UnitOfWork) -> list[Applied]:
            return await self._reports.apply(sender, reports, work)

        if reports:
            await self._reports.stop(sender, await self._outbox.transact(body))
