"""The loop that looks for duplicates among members who changed: nothing is done in a request.

Each turn compares one batch of changed members with few others, those whose given names sound the same
nearby. Several processes may look at the same batch: what they write is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import timedelta
from heapq import nsmallest
from itertools import islice
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from services.members.core.domain import Status
from services.members.duplicates.domain import Person, judge, neighbourhood
from services.members.duplicates.store import COMPARED, Changed, DuplicateStore, Found, key_of
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
        known = await self._store.known([each.person.id for each in changed])
        sharing = await self._sharing(changed)
        found: list[Found] = []
        suspected: set[str] = set()
        # One neighbourhood after the other, since registrations and pages of imports come by neighbourhoods:
        # one query for each, and no more people in memory than live in it.
        for near, members in _nearby(changed).items():
            keys = sorted({each.key for each in members if each.key and each.status == Status.ACTIVE})
            sounding = await self._store.sounding(keys, near)
            # In a thread: a page of an import is a thousand people who change at one instant.
            pairs, keys_of_known = await asyncio.to_thread(_suspicions, members, sounding, sharing, known)
            found += pairs
            suspected |= keys_of_known
        await self._store.save(known, found, suspected, now)
        await self._store.look_on(last, now)
        return Turn.of(len(changed), BATCH)

    async def _sharing(self, changed: Sequence[Changed]) -> dict[str, list[Person]]:
        """By the member's id: people who have left with the phone of an active member, and the reverse."""
        found: dict[str, list[Person]] = {}
        for status, other in ((Status.ACTIVE, Status.LEFT), (Status.LEFT, Status.ACTIVE)):
            these = [each for each in changed if each.status == status]
            sharing = await self._store.with_phones([each.person.phone for each in these], other)
            found |= {each.person.id: sharing.get(each.person.phone, []) for each in these}
        return found


def _nearby(changed: Iterable[Changed]) -> dict[str, list[Changed]]:
    nearby: dict[str, list[Changed]] = {}
    for each in changed:
        nearby.setdefault(neighbourhood(each.person.unit), []).append(each)
    return nearby


def _suspicions(
    members: Iterable[Changed],
    sounding: Mapping[str, Sequence[Person]],
    sharing: Mapping[str, Sequence[Person]],
    known: Container[str],
) -> tuple[list[Found], set[str]]:
    """The likeliest pairs of each member, and the keys of those `known` ones that are still suspected."""
    found: list[Found] = []
    suspected: set[str] = set()
    for each in members:
        alike = sounding.get(each.key, ()) if each.key and each.status == Status.ACTIVE else ()
        nearby = islice((other for other in alike if other.id != each.person.id), COMPARED)
        judged = ((other, judge(each.person, other)) for other in (*nearby, *sharing.get(each.person.id, ())))
        pairs = [Found(each.person, other, suspicion) for other, suspicion in judged if suspicion]
        suspected.update(key for pair in pairs if (key := key_of(pair.one, pair.other)) in known)
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
