"""The loop that tells who is to be invited again, when their time has come.

Due times are in MongoDB, and each is cleared in the transaction that stages the event. Of two processes that
find the same member due, one is aborted by MongoDB's write conflict and finds nothing left to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from services.groups.core.core import Core
from services.groups.core.domain import Group
from services.groups.core.observations.domain import Changed, Observation, lapsed
from services.groups.invites.store import InviteStore
from services.shared.loops import Pace, Turn, poll_loop
from services.shared.messaging import Origin, UnitOfWork

LOOP: Final = "reinvites"
PACE: Final = Pace(0.5, 5.0)
BATCH: Final = 200
NO_LINK_YET: Final = timedelta(hours=1)
"""The pause while the group has no link; a new one makes its members due at once."""


class Reinviter:
    def __init__(self, core: Core, store: InviteStore, due: asyncio.Event) -> None:
        self._core = core
        self._store = store
        self._due = due

    async def run(self, stop: asyncio.Event) -> None:
        await poll_loop(LOOP, self._turn, stop, PACE, wake=self._due)

    async def _turn(self) -> Turn:
        found = await self.invite_batch()
        if found < BATCH:
            now, first = self._core.runtime.server_clock.now(), await self._store.first_due()
            age = (now - first).total_seconds() if first else 0.0
            self._core.metrics.reinvites_age.set(max(0.0, age))
        return Turn.of(found, BATCH)

    async def invite_batch(self) -> int:
        """How many members were due."""
        now = self._core.runtime.server_clock.now()
        if not await self._store.due(now, 1):
            return 0

        async def body(work: UnitOfWork) -> int:
            due = await self._store.due(now, BATCH, work.session)
            await self._invite(due, work)
            return len(due)

        return await self._core.runtime.outbox.transact(body)

    async def _invite(self, due: Sequence[Observation], work: UnitOfWork) -> None:
        """Three reads and three bulk writes for the whole batch."""
        core, session = self._core, work.session
        groups = await core.store.groups({each.group_id for each in due}, session)
        placements = await core.store.placements({each.member_id for each in due}, session)
        sequences: dict[str, int] = {}
        changes, now = [], core.runtime.server_clock.now()
        for each in due:
            group, placement = groups.get(each.group_id), placements.get(each.member_id)
            if group is None or placement is None or not each.may_be_invited:
                changes.append(Changed(each, replace(each, due_at=None, reset=None)))
            elif not group.invite_ready:
                changes.append(Changed(each, replace(each, due_at=now + NO_LINK_YET)))
            else:
                sequence = sequences.get(each.member_id, placement.sequence) + 1
                sequences[each.member_id] = sequence
                changes.append(self._lapse(each, group, sequence, work))
        await core.observations.save(changes, session)
        await core.observations.renumber(sequences, session)

    def _lapse(self, each: Observation, group: Group, sequence: int, work: UnitOfWork) -> Changed:
        now = self._core.runtime.server_clock.now()
        after, event = lapsed(replace(each, unit=group.unit, kind=group.kind), now)
        work.stage(event, sequence, Origin.here())
        work.after_commit(self._core.metrics.reinvites.labels(event.cause).inc)
        return Changed(each, replace(after, sequence=sequence, changed_at=now))
