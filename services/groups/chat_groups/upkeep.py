"""Upkeep of groups: opened ahead of members, split, merged, archived.

What moves members is a job: each step moves some of them from one group to others of its unit and kind, in
one transaction, so nobody is ever without a seat or in two. Until it has ended the group is `closing`: it
gives no seat. A job that is cancelled, or fails, leaves it so; asking again goes on, reopening takes it back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from services.groups.chat_groups.domain import closing, reopened
from services.groups.chat_groups.store import ChatGroupStore
from services.groups.core.core import Core
from services.groups.core.domain import Group
from services.groups.core.errors import (
    group_has_members,
    group_is_retired,
    kind_has_no_groups,
    no_room,
    nothing_to_split,
    unknown_level,
)
from services.groups.core.seating.drafts import Review
from services.groups.core.seating.group_seats import Numbering, archived, described, new_group
from services.groups.core.seating.service import ChangeRequest
from services.shared.contracts.base import Numbered, Step
from services.shared.contracts.groups import GroupCreated
from services.shared.errors import NotFoundError, PermanentError
from services.shared.identity import Identity
from services.shared.jobs import Advance, Effect, Job, JobKind
from services.shared.messaging import Origin, UnitOfWork

SPLIT: Final = "group_split"
MERGE: Final = "group_merge"
OPEN: Final = "group_open"
BATCH: Final = 200
"""Members of one step, or units in which a group is opened."""


class Upkeep:
    def __init__(self, core: Core, store: ChatGroupStore) -> None:
        self._core = core
        self._store = store
        self.kinds = (
            JobKind(SPLIT, self._split_step),
            JobKind(MERGE, self._merge_step),
            JobKind(OPEN, self._open_step),
        )

    async def split(self, caller: Identity, id_: str, capacity: int) -> Job:
        """Raises: `NotFoundError`; `ConflictError` for a group that is no larger, or is archived."""

        async def body(work: UnitOfWork) -> Job:
            group = await self._live(caller, id_, work)
            if capacity >= group.taken:
                raise nothing_to_split()
            return await self._begin(group, SPLIT, caller, work, capacity)

        return await self._core.runtime.outbox.transact(body)

    async def merge(self, caller: Identity, id_: str) -> Job:
        """Raises: `NotFoundError`; `ConflictError` for a group that is archived, or whose members have no
        room elsewhere."""

        async def body(work: UnitOfWork) -> Job:
            group = await self._live(caller, id_, work)
            free = await self._store.free_seats(group, work.session)
            if free < group.taken:
                raise no_room(group.taken, free)
            return await self._begin(group, MERGE, caller, work)

        return await self._core.runtime.outbox.transact(body)

    async def reopen(self, caller: Identity, id_: str, origin: Origin) -> Group:
        """Raises: `NotFoundError`; `ConflictError` for a group that is archived."""

        def opened(group: Group) -> Step[Group]:
            if group.retired is None:
                return Step(group)
            return reopened(replace(group, shrinks_to=None), self._core.runtime.clock.now())

        return await self._change(caller, id_, opened, origin)

    async def archive(self, caller: Identity, id_: str, origin: Origin) -> Group:
        """Raises: `NotFoundError`; `ConflictError` for a group with members, or one that is archived."""

        def closed(group: Group) -> Step[Group]:
            if group.taken:
                raise group_has_members(group.taken)
            return archived(group, self._core.runtime.clock.now())

        return await self._change(caller, id_, closed, origin)

    async def open(self, caller: Identity, unit: str, level: str, kind: str) -> Job:
        """Raises: `NotFoundError` for a unit that does not exist or is not the caller's; `InvalidError` for a
        level that the tree does not have, and when no rule of the policy could give a seat in such groups."""
        caller.check_access(unit)
        if not await self._core.store.units([unit]):
            raise NotFoundError
        policy = await self._core.policies.newest()
        if level not in policy.tree:
            raise unknown_level()
        if not policy.uses(kind, policy.every_depth[policy.tree.index(level)]):
            raise kind_has_no_groups()
        wanted = {"unit": unit, "level": level, "kind": kind}
        return await self._core.runtime.jobs.add(OPEN, wanted, caller)

    async def _live(self, caller: Identity, id_: str, work: UnitOfWork) -> Group:
        group = (await self._core.store.groups([id_], work.session)).get(id_)
        if group is None or not caller.can_access(group.unit):
            raise NotFoundError
        if group.retired == "archived":
            raise group_is_retired()
        return group

    async def _begin(
        self, group: Group, kind: str, caller: Identity, work: UnitOfWork, capacity: int | None = None
    ) -> Job:
        shut = closing(group, self._core.runtime.clock.now(), capacity)
        await self._core.store.save_groups([shut.state], {group.id}, work.session)
        job = await self._core.runtime.jobs.add(kind, {"group_id": group.id}, caller, work=work)
        work.stage_all(shut.events, job.origin)
        return job

    async def _change(
        self, caller: Identity, id_: str, change: Callable[[Group], Step[Group]], origin: Origin
    ) -> Group:
        async def body(work: UnitOfWork) -> Group:
            step = change(await self._live(caller, id_, work))
            await self._core.store.save_groups([step.state], {id_}, work.session)
            work.stage_all(step.events, origin)
            return step.state

        return await self._core.runtime.outbox.transact(body)

    async def _split_step(self, job: Job) -> Effect:
        async def effect(work: UnitOfWork) -> Advance:
            group = await self._live(job.requested_by, job.input["group_id"], work)
            if group.retired is None or group.shrinks_to is None:
                return Advance(finished=True, result={"moved": job.counts.get("moved", 0)})
            over = group.taken - group.shrinks_to
            if over <= 0:
                return await self._end(job, reopened(group, self._core.runtime.clock.now()), work)
            return await self._move(job, group, min(over, BATCH), over, work)

        return effect

    async def _merge_step(self, job: Job) -> Effect:
        async def effect(work: UnitOfWork) -> Advance:
            group = await self._live(job.requested_by, job.input["group_id"], work)
            if group.retired is None or group.shrinks_to is not None:
                return Advance(finished=True, result={"moved": job.counts.get("moved", 0)})
            if group.taken <= 0:
                return await self._end(job, archived(group, self._core.runtime.clock.now()), work)
            return await self._move(job, group, BATCH, group.taken, work)

        return effect

    async def _move(self, job: Job, group: Group, count: int, over: int, work: UnitOfWork) -> Advance:
        members = await self._store.newest_members(group, count, work.session)
        requests = [ChangeRequest(Review(member, vacates=group.id), job.origin) for member in members]
        steps = await self._core.seating.apply(requests, work) if requests else ()
        moved = sum(1 for step in steps if step.events)
        if moved == 0:
            raise PermanentError("no_room", "the members have no room in the unit's other groups")
        return Advance(done=moved, total=over if job.total is None else None, counts={"moved": moved})

    async def _end(self, job: Job, step: Step[Group], work: UnitOfWork) -> Advance:
        await self._core.store.save_groups([step.state], {step.state.id}, work.session)
        work.stage_all(step.events, job.origin)
        return Advance(finished=True, result={"moved": job.counts.get("moved", 0)})

    async def _open_step(self, job: Job) -> Effect:
        wanted, after = job.input, job.cursor or ""
        job.requested_by.check_access(wanted["unit"])

        async def effect(work: UnitOfWork) -> Advance:
            policy = await self._core.policies.newest(work.session)
            cap = policy.caps.get(wanted["kind"])
            if cap is None:
                raise kind_has_no_groups()
            codes, without = await self._store.units_without(
                wanted["unit"], wanted["level"], wanted["kind"], after, BATCH, work.session
            )
            pairs = [(code, wanted["kind"]) for code in without]
            numbering = await self._core.seats.numbering(pairs, work.session)
            names = await self._core.seats.unit_names(without, work.session)
            now = self._core.runtime.clock.now()
            groups = [
                new_group(
                    code,
                    kind,
                    numbering.get((code, kind), Numbering()).last + 1,
                    cap.capacity,
                    names[code],
                    now,
                )
                for code, kind in pairs
            ]
            await self._core.seats.add_groups(groups, work.session)
            for group in groups:
                work.stage_all([Numbered(described(GroupCreated, group), 1)], job.origin)
            work.after_commit(lambda: self._core.metrics.groups_created.inc(len(groups)))
            opened = job.counts.get("opened", 0) + len(groups)
            return Advance(
                cursor=codes[-1] if codes else after,
                done=len(codes),
                counts={"opened": len(groups)},
                finished=len(codes) < BATCH,
                result={"opened": opened},
            )

        return effect
