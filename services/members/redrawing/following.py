"""Following: what is heard of a succession is noted, and a job moves the members and roles of those units.

A member can come to a retired unit after its job has ended: by a request that another process took before it
knew, by an import's plan, or by undoing a merge. So units that were followed are looked through again and
again, and become pending anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from services.members.core.core import Core
from services.members.core.domain import Member
from services.members.core.terms import RoleChange, record_of
from services.members.redrawing.domain import Following, follow
from services.members.redrawing.store import FOLLOWED, PENDING, UNMAPPED, RedrawingStore
from services.shared.contracts.base import Envelope
from services.shared.contracts.groups import UnitSucceeded
from services.shared.identity import ALL_UNITS, Identity
from services.shared.jobs import LIVE, Advance, Effect, Job, JobKind
from services.shared.loops import Pace, Turn, poll_loop
from services.shared.messaging import Origin, UnitOfWork

KIND: Final = "member_redrawing"
LOOP: Final = "redrawing"
PACE: Final = Pace.every(5.0)
UNITS_A_STEP: Final = 100
MEMBERS_A_STEP: Final = 500
LOOK_AGAIN: Final = timedelta(minutes=1)
_SERVICE: Final = Identity("members", frozenset(), ALL_UNITS)


class MemberRedrawing:
    """The job: pending units, until there are none; it needs no cursor."""

    def __init__(self, core: Core, store: RedrawingStore) -> None:
        self._core = core
        self._store = store
        self._successions = core.runtime.successions
        self._clock = core.runtime.server_clock
        self.kind = JobKind(KIND, self.step)

    async def step(self, job: Job) -> Effect:
        async def write(work: UnitOfWork) -> Advance:
            codes = await self._store.pending(UNITS_A_STEP, work.session)
            if not codes:
                return Advance(finished=True, result=dict(job.counts))
            now = self._clock.now()
            targets = await self._successions.resolve(codes, work.session)
            units = {code: target for code, target in targets.items() if target is not None}
            await self._store.mark({code: UNMAPPED for code in codes if code not in units}, now, work.session)
            ids = await self._store.concerned(list(units), MEMBERS_A_STEP, work.session)
            moved, roles = await self.follow(ids, units, job.origin, work)
            followed = dict.fromkeys(units, FOLLOWED) if len(ids) < MEMBERS_A_STEP else {}
            await self._store.mark(followed, now, work.session)
            counts = {"moved": moved, "roles": roles, "units": len(followed)}
            return Advance(done=moved, counts={word: n for word, n in counts.items() if n})

        return write

    async def follow(
        self, ids: Sequence[str], units: Mapping[str, str], origin: Origin, work: UnitOfWork
    ) -> tuple[int, int]:
        """Let these members, and their roles, follow: how many moved, and how many roles."""
        members = await self._store.members(ids, work.session)
        return await self.save(members, dict.fromkeys(members, units), origin, work)

    async def save(
        self,
        members: Mapping[str, Member],
        units: Mapping[str, Mapping[str, str]],
        origin: Origin,
        work: UnitOfWork,
    ) -> tuple[int, int]:
        """As `follow`, with what has become of the units by the member whom it concerns."""
        if not members:
            return 0, 0
        now = self._clock.now()
        terms = await self._store.terms_of(list(members), work.session)
        done = [follow(members[id_], terms.get(id_, ()), units[id_], now) for id_ in members]
        states = [each.step.state for each in done if each.step.events]
        await self._store.save_members(members, states, work.session)
        for each in done:
            work.stage_all(each.step.events, origin)
        await self._save_terms(done, now, work)
        moved = sum(state.unit != members[state.id].unit for state in states)
        work.after_commit(lambda: self._core.metrics.changes.labels("redrawn").inc(moved))
        return moved, sum(len(each.changed) for each in done)

    async def _save_terms(self, done: Sequence[Following], now: datetime, work: UnitOfWork) -> None:
        changed = [term for each in done for term in each.changed]
        gone = [term for each in done for term in each.merged]
        await self._store.save_terms(changed, gone, now, work.session)
        records = [record_of(term, RoleChange.REDRAWN, now) for term in changed]
        await self._store.record(records, work.session)


class Followers:
    """Notes what is heard, and sees to it that there is a job."""

    def __init__(self, core: Core, store: RedrawingStore) -> None:
        self._jobs = core.runtime.jobs
        self._successions = core.runtime.successions
        self._store = store
        self._clock = core.runtime.server_clock
        self._heard = asyncio.Event()
        self._looked_at: datetime | None = None

    async def hear(self, events: Sequence[Envelope[UnitSucceeded]], work: UnitOfWork) -> None:
        states = {e.data.unit: PENDING if len(e.data.successors) == 1 else UNMAPPED for e in events}
        await self._store.mark(states, self._clock.now(), work.session)
        work.after_commit(self._heard.set)

    async def run(self, stop: asyncio.Event) -> None:
        await poll_loop(LOOP, self.turn, stop, PACE, wake=self._heard)

    async def turn(self) -> Turn:
        now = self._clock.now()
        if self._looked_at is None or now - self._looked_at >= LOOK_AGAIN:
            await self.look()
            self._looked_at = now
        if await self._store.pending(1) and not await self._has_job():
            await self._jobs.add(KIND, {}, _SERVICE)
        return Turn.NOTHING

    async def look(self) -> None:
        """Make units pending again in which somebody is, and for which one unit stands: they were followed,
        or the parts of a split have been merged since."""
        for state in (FOLLOWED, UNMAPPED):
            after = ""
            while codes := await self._store.codes(state, after):
                found = await self._store.inhabited(codes)
                units = await self._successions.resolve(found)
                pending = [unit for unit in found if units[unit] is not None]
                await self._store.mark(dict.fromkeys(pending, PENDING), self._clock.now())
                after = codes[-1]

    async def _has_job(self) -> bool:
        for state in (*LIVE, "paused"):
            if await self._jobs.page(kind=KIND, state=state, root=None, after=None, limit=1):
                return True
        return False


class UnmappedGauge:
    def __init__(self, store: RedrawingStore, registry: CollectorRegistry) -> None:
        self._store = store
        self._gauge = Gauge(
            "sangathan_members_unmapped",
            "Active members of units that were split or given up, whom nobody has mapped to a live one.",
            registry=registry,
        )

    async def read(self) -> None:
        count, after = 0, ""
        while codes := await self._store.codes(UNMAPPED, after):
            count += await self._store.count_in(codes)
            after = codes[-1]
        self._gauge.set(count)
