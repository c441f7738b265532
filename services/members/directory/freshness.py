"""Keeping the fields that members are searched by up to date, whoever changed a member.

Every process of this release derives them with each change. One of an earlier release does not, before an
upgrade or beside this one. So each process looks through all members once, at its start, and from then on
through those changed lately, and derives what is missing. Until nothing has been missing for `QUIET`, lists
are answered without these fields: slower in a large directory, but whole.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Final

import structlog

from services.members.core.metrics import MembersMetrics
from services.members.directory.store import DirectoryStore
from services.shared.clock import Clock
from services.shared.loops import Pace, Turn, poll_loop

log = structlog.get_logger(__name__)

BATCH: Final = 500
PACE: Final = Pace(0.05, 10.0)
QUIET: Final = timedelta(minutes=1)
OVERLAP: Final = timedelta(minutes=5)
"""How much earlier than its writing `updated_at` may be: clocks differ, and transactions wait."""


class Freshness:
    def __init__(self, store: DirectoryStore, clock: Clock, metrics: MembersMetrics) -> None:
        self._store = store
        self._clock = clock
        self._refreshed = metrics.search_fields_refreshed
        self._began = clock.now()
        """When the look that is going on began."""
        self._since: datetime | None = None
        """Members changed since then are looked at; None for all."""
        self._after = ""
        self._stale_at: datetime | None = None

    @property
    def complete(self) -> bool:
        """Whether every member can be found by the search fields."""
        if self._since is None:
            return False
        return self._stale_at is None or self._clock.now() - self._stale_at > QUIET

    async def run(self, stop: asyncio.Event) -> None:
        await poll_loop("search-fields", self.turn, stop, PACE)

    async def turn(self) -> Turn:
        """Derive the fields of one batch of members; after the last, begin again with those changed since."""
        if not self._after:
            self._began = self._clock.now()
        found, last = await self._store.stale(self._after, self._since, BATCH)
        if last is not None:
            self._refreshed.inc(found)
            self._after, self._stale_at = last, self._clock.now()
            return Turn.SOME
        if self._since is None:
            log.info("directory.complete")
        self._after, self._since = "", self._began - OVERLAP
        return Turn.NOTHING
