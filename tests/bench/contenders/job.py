"""The job that every contender does for every event: inbox, placement and staged events in one transaction.

The contenders differ in how messages reach it, in what numbers, and when offsets are committed: always after
`apply`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.groups.core.core import Core
from services.groups.core.seating.drafts import Change
from services.groups.core.seating.service import ChangeRequest
from services.groups.placement.handlers import stated
from services.groups.settings import GroupsSettings
from services.shared.contracts.base import Envelope
from services.shared.contracts.members import TOPIC
from services.shared.messaging import Inbox, Origin, Record, UnitOfWork, decode
from services.shared.runtime import Runtime

BATCH = 500
"""Events per transaction of the batching contenders, the same as our own consumer's."""
FETCH_SECONDS = 0.1


class Job:
    """The groups service without HTTP and relay. A contender consumes `topic` as `group`."""

    def __init__(self, name: str) -> None:
        self.settings = GroupsSettings.load()
        self.runtime = Runtime(self.settings)
        core = Core(self.runtime, self.settings)
        self.seating = core.seating
        self.bootstrap = self.settings.kafka_bootstrap
        self.topic = self.settings.kafka_prefix + TOPIC
        self.group = self.settings.kafka_prefix + name
        self._inbox = Inbox(self.runtime.database)

    async def apply(self, records: Sequence[Record]) -> None:
        """Apply in one transaction, skipping events that are in the inbox already."""
        events: list[Envelope[Any]] = [decode(record) for record in records]

        async def body(work: UnitOfWork) -> None:
            seen = await self._inbox.seen([e.id for e in events], work.session)
            new = [e for e in events if e.id not in seen]
            if not new:
                return
            requests = [
                ChangeRequest(Change(e.subject, e.sequence, e.data.unit, states=stated(e.data)), Origin.of(e))
                for e in new
            ]
            await self.seating.apply(requests, work)
            await self._inbox.add([e.id for e in new], self.runtime.clock.now(), work.session)

        await self.runtime.outbox.transact(body)
