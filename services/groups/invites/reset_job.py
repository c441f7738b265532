"""The job that makes members due who are not yet in a group whose link was set anew: the link that they have
no longer works."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Final

from services.groups.core.core import Core
from services.groups.core.domain import Group
from services.groups.core.observations.domain import (
    Changed,
    link_was_reset,
    new_observation,
    observation_id,
    seated,
)
from services.shared.errors import NotFoundError
from services.shared.identity import Identity
from services.shared.jobs import Advance, Effect, Job, JobKind
from services.shared.messaging import UnitOfWork

KIND: Final = "link_reset"
BATCH: Final = 500


class ResetJob:
    def __init__(self, core: Core, due: asyncio.Event) -> None:
        self._core = core
        self._due = due
        self.kind = JobKind(KIND, self.step)

    async def link_changed(self, caller: Identity, before: Group, after: Group, work: UnitOfWork) -> None:
        """A first link is no reset: welcomes wait for it. But who was invited before it was withdrawn is."""
        if after.invite_link is None:
            return
        if before.invite_link is None:
            known = await self._core.observations.in_group(after.id, None, 1, session=work.session)
            if not known:
                return
        wanted = {"group_id": after.id, "replaced": before.invite_link is not None}
        await self._core.runtime.jobs.add(KIND, wanted, caller, work=work)

    async def step(self, job: Job) -> Effect:
        """Raises: `NotFoundError` for a group outside the units of whoever changed the link."""
        group_id, replaced = job.input["group_id"], job.input["replaced"]
        group = (await self._core.store.groups([group_id])).get(group_id)
        if group is None:
            raise NotFoundError
        job.requested_by.check_access(group.unit)
        after: Any = job.cursor
        ids = [each.member_id for each in await self._core.observations.seated(group, after, BATCH)]

        async def write(work: UnitOfWork) -> Advance:
            store, session, now = self._core.observations, work.session, self._core.runtime.server_clock.now()
            placements = await self._core.store.placements(ids, session)
            known = await store.by_pair([(group_id, id_) for id_ in ids], session)
            changes = []
            for id_, placement in sorted(placements.items()):
                before = known.get(observation_id(group_id, id_))
                start = before or new_observation(group, placement, now)
                if not replaced and start.invited_at is None:
                    continue
                due = link_was_reset(seated(start, group, placement.by_group), now)
                if due.due_at is not None:
                    changes.append(Changed(before, replace(due, changed_at=now)))
            await store.save(changes, session)
            work.after_commit(self._due.set)
            more = len(ids) == BATCH
            return Advance(
                cursor=ids[-1] if ids else after,
                done=len(ids),
                counts={"due": len(changes)},
                finished=not more,
                result=None
                if more
                else {"group_id": group_id, "due": job.counts.get("due", 0) + len(changes)},
            )

        return write
