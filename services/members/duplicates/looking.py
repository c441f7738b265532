"""The loop that looks for duplicates among members who changed: nothing is done in a request.

Each turn compares one batch of changed members with few others, those whose given names sound the same
nearby. Several processes may look at the same batch: what they write is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from heapq import nsmallest
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from services.members.core.domain import Status
from services.members.duplicates.domain import Person, judge
from services.members.duplicates.store import Changed, DuplicateStore, Found, key_of
from services.shared.clock import Clock
from services.shared.loops import Pace, Turn, poll_loop
from services.shared.runtime.slow_gauges import Reading

LOOP: Final = "duplicates"
BATCH: Final = 100
PACE: Final = Pace(0.25, 2.0)
"""Nobody waits for a suggestion, so a rush of registrations keeps most of the processor."""
SUGGESTED: Final = 10
"""Most pairs that a look at one member suggests, the likeliest: nobody goes through hundreds of namesakes,
and a pair for every two of them would be their number squared."""
SETTLED: Final = timedelta(seconds=5)
"""A change is looked at when it is that old: one that was decided before it may be committed after it."""


class Looking:
    def __init__(self, store: DuplicateStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def run(self, stop: asyncio.Event) -> None:
        """Raises: a fault that does not pass, for the supervisor to log and restart."""
        await poll_loop(LOOP, self.turn, stop, PACE)

    async def turn(self) -> Turn:
        """Look at one batch of members, those who changed earliest."""
        since, _ = await self._store.looked_until()
        now = self._clock.now()
        changed, last = await self._store.changed(since, now - SETTLED, BATCH)
        if not changed:
            return Turn.NOTHING
        candidates = await self._store.sounding_alike(changed)
        for status, other in ((Status.ACTIVE, Status.LEFT), (Status.LEFT, Status.ACTIVE)):
            these = [each for each in changed if each.status == status]
            sharing = await self._store.with_phones([each.person.phone for each in these], other)
            for each in these:
                candidates.setdefault(each.person.id, []).extend(sharing.get(each.person.phone, ()))
        # In a thread: a page of an import is a thousand people who change at one instant.
        found, suspected = await asyncio.to_thread(_suspicions, changed, candidates)
        await self._store.save([each.person.id for each in changed], found, suspected, now)
        await self._store.look_on(last, now)
        return Turn.of(len(changed), BATCH)


def _suspicions(
    changed: Iterable[Changed], candidates: Mapping[str, Sequence[Person]]
) -> tuple[list[Found], set[str]]:
    """The likeliest pairs of each member, and the keys of all that are suspected."""
    found: list[Found] = []
    suspected: set[str] = set()
    for each in changed:
        judged = ((other, judge(each.person, other)) for other in candidates.get(each.person.id, ()))
        pairs = [Found(each.person, other, suspicion) for other, suspicion in judged if suspicion]
        suspected.update(key_of(pair.one, pair.other) for pair in pairs)
        found += nsmallest(SUGGESTED, pairs, key=lambda pair: (-pair.suspicion.score, pair.other.id))
    return found, suspected


def gauges(store: DuplicateStore, clock: Clock, registry: CollectorRegistry) -> Reading:
    pairs = Gauge(
        "sangathan_members_duplicates_open",
        "Pairs of members who may be one person, which nobody has decided about.",
        registry=registry,
    )
    stuck = Gauge(
        "sangathan_members_duplicates_stuck_seconds",
        "Seconds since members were last looked through for duplicates, while some wait; 0 if none do.",
        registry=registry,
    )

    async def read() -> None:
        now = clock.now()
        since, moved_at = await store.looked_until()
        waits = await store.waiting(since, now - 2 * SETTLED)
        stuck.set(max(0.0, (now - moved_at).total_seconds()) if waits and moved_at else 0)
        pairs.set(await store.open())

    return read
