"""Admins of groups: appointed, suggested, followed when they leave; gaps, tasks and links to their page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from services.groups.admins.domain import (
    MAX_ADMINS,
    Candidate,
    Lack,
    TaskKind,
    candidates,
)
from services.groups.admins.store import AdminStore, Appointment, Page, Task
from services.groups.core.core import Core
from services.groups.core.domain import Group, PlacementState
from services.groups.core.errors import admin_has_left, no_more_admins
from services.groups.core.observations.domain import (
    MAX_REINVITES,
    Cause,
    Changed,
    Observation,
    observation_id,
    observed,
    seated,
    seen,
)
from services.shared.contracts.base import Numbered
from services.shared.contracts.groups import GroupAdminsChanged, GroupMemberRemoved
from services.shared.errors import NotFoundError
from services.shared.identity import Identity
from services.shared.ids import new_id
from services.shared.messaging import Origin, UnitOfWork

SHOWN: Final = 100
"""Tasks of one kind that are shown at once; the next follow when these are done."""


@dataclass(frozen=True, slots=True)
class Run:
    """A group, the people who run it, and those who could."""

    group: Group
    admins: Sequence[Appointment]
    suggested: Sequence[Candidate]


class AdminService:
    def __init__(self, core: Core, store: AdminStore) -> None:
        self._core = core
        self._store = store

    async def group(self, caller: Identity, id_: str, work: UnitOfWork | None = None) -> Group:
        """Raises: `NotFoundError`."""
        session = work.session if work else None
        group = (await self._core.store.groups([id_], session)).get(id_)
        if group is None or not caller.can_access(group.unit):
            raise NotFoundError
        return group

    async def run_by(self, caller: Identity, group_id: str) -> Run:
        """Raises: `NotFoundError`."""
        group = await self.group(caller, group_id)
        admins = await self._store.admins([group_id])
        holders = await self._store.holders_over([group.unit])
        taken = {each.member_id for each in admins}
        return Run(group, admins, candidates(group.unit, holders, taken, self._now())[:MAX_ADMINS])

    async def appoint(self, caller: Identity, group_id: str, member_id: str) -> None:
        """Raises: `NotFoundError` for a group or member unknown, `ConflictError` for one too many
        or for somebody who has left."""

        async def body(work: UnitOfWork) -> None:
            group = await self.group(caller, group_id, work)
            placement = (await self._core.store.placements([member_id], work.session)).get(member_id)
            if placement is None:
                raise NotFoundError
            if placement.state is PlacementState.LEFT:
                raise admin_has_left()
            admins = await self._store.admins([group_id], work.session)
            if member_id in {each.member_id for each in admins}:
                return
            if len(admins) >= MAX_ADMINS:
                raise no_more_admins(MAX_ADMINS)
            made = Appointment(
                observation_id(group_id, member_id), group_id, member_id, self._now(), caller.subject
            )
            await self._store.appoint(made, work.session)
            await self._recount([group], work, Origin.here())

        await self._core.runtime.outbox.transact(body)

    async def dismiss(self, caller: Identity, group_id: str, member_id: str) -> None:
        """Raises: `NotFoundError`."""

        async def body(work: UnitOfWork) -> None:
            group = await self.group(caller, group_id, work)
            await self._store.dismiss([observation_id(group_id, member_id)], work.session)
            await self._store.revoke({"group_id": group_id, "member_id": member_id}, work.session)
            await self._recount([group], work, Origin.here())

        await self._core.runtime.outbox.transact(body)

    async def leave(self, member_ids: Sequence[str], work: UnitOfWork, origin: Origin) -> None:
        """Members who left run nothing any more: their links end, and a task asks for whoever follows."""
        appointments = await self._store.admin_of(member_ids, work.session)
        if not appointments:
            return
        await self._store.dismiss([each.id for each in appointments], work.session)
        await self._store.revoke({"member_id": {"$in": list(member_ids)}}, work.session)
        groups = await self._core.store.groups({each.group_id for each in appointments}, work.session)
        holders = await self._store.holders_over({g.unit for g in groups.values()}, work.session)
        others = await self._store.admins(groups, work.session)
        tasks = []
        for each in appointments:
            group = groups.get(each.group_id)
            if group is not None:
                taken = {o.member_id for o in others if o.group_id == group.id} | set(member_ids)
                following = candidates(group.unit, holders, taken, self._now())
                tasks.append(
                    Task(
                        id=f"{TaskKind.HAND_OVER}/{each.id}",
                        group_id=group.id,
                        kind=TaskKind.HAND_OVER,
                        member_id=each.member_id,
                        created_at=self._now(),
                        successor=following[0].member_id if following else None,
                    )
                )
        await self._store.add_tasks(tasks, work.session)
        await self._recount(list(groups.values()), work, origin)

    async def seats_changed(self, events: Sequence[Numbered], work: UnitOfWork) -> None:
        """A member who left may still be in the chat group: unless a roster has told, an admin is to look."""
        left = [
            event for event, _ in events if isinstance(event, GroupMemberRemoved) and event.reason == "left"
        ]
        if not left:
            return
        pairs = [(each.group_id, each.member_id) for each in left]
        known = await self._core.observations.by_pair(pairs, work.session)
        told = (PlacementState.JOINED, PlacementState.LEFT)
        unknown = [
            pair for pair in pairs if (o := known.get(observation_id(*pair))) is None or o.state not in told
        ]
        await self._store.add_tasks([self._removal(*pair) for pair in unknown], work.session)

    async def merged(self, member_ids: Sequence[str], work: UnitOfWork) -> None:
        """The person stays, as another member."""
        await self._store.drop_removals(member_ids, work.session)

    async def erased(
        self, held: Mapping[str, Sequence[str]], work: UnitOfWork
    ) -> Mapping[str, Mapping[str, int]]:
        """Before the observations go: note in which groups these members are, for the tasks."""
        known = await self._core.observations.of_members(held, work.session)
        present = [each for each in known.values() if each.state is PlacementState.JOINED]
        tasks = {(id_, group) for id_, groups in held.items() for group in groups}
        tasks |= {(each.member_id, each.group_id) for each in present}
        removals = [self._removal(group_id, member_id) for member_id, group_id in sorted(tasks)]
        await self._store.add_tasks(removals, work.session)
        admins = Counter(each.member_id for each in await self._store.admin_of(held, work.session))
        return {member_id: {"appointments": admins[member_id]} for member_id in held}

    async def remove_erased(self, erasures: Mapping[str, str], work: UnitOfWork) -> None:
        """Name the erasure in the tasks: the members service keeps the number until they are done."""
        await self._store.name_erasures(erasures, work.session)

    async def gaps(
        self,
        caller: Identity,
        unit: str | None,
        problem: Lack | None,
        after: tuple[str, str] | None,
        limit: int,
    ) -> list[Group]:
        """Groups that lack something. Raises: `NotFoundError` for a unit outside the caller's."""
        return await self._store.gaps(caller.accessible_root(unit), problem, after, limit)

    async def issue_page(self, caller: Identity, group_id: str, member_id: str | None) -> Page:
        """A link to the page of a group, for one of its admins or for whoever gets it.

        Raises: `NotFoundError` for an unknown group, or for somebody who is no admin of it.
        """
        await self.group(caller, group_id)
        admins = {each.member_id for each in await self._store.admins([group_id])}
        if member_id is not None and member_id not in admins:
            raise NotFoundError
        days = timedelta(days=self._core.settings.page_days)
        page = Page(new_id(), group_id, caller.subject, self._now() + days, member_id)
        await self._store.add_page(page)
        return page

    async def revoke_pages(self, caller: Identity, group_id: str) -> None:
        """End every link to the page of a group. Raises: `NotFoundError`."""
        await self.group(caller, group_id)
        await self._store.revoke({"group_id": group_id})

    async def open_page(self, page_id: str) -> tuple[Page, Group] | None:
        """None for a page that does not exist any more, was revoked or has expired."""
        page = await self._store.page(page_id)
        if page is None or page.revoked or page.expires_at <= self._now():
            return None
        group = (await self._core.store.groups([page.group_id])).get(page.group_id)
        return (page, group) if group else None

    async def tasks(self, group_id: str) -> list[Task]:
        """Open tasks in the chat group: those stored, and those that follow from its rosters."""
        found = await self._store.open_tasks(group_id)
        waiting = await self._core.observations.in_group(group_id, None, SHOWN, cause=Cause.NEVER_CAME.value)
        found += [_task(TaskKind.ADD, each) for each in waiting if each.reinvites >= MAX_REINVITES]
        for cause in (Cause.NO_SEAT, Cause.TWO_GROUPS):
            out = await self._core.observations.in_group(group_id, None, SHOWN, cause=cause.value)
            found += [_task(TaskKind.REMOVE, each) for each in out]
        return list({each.id: each for each in reversed(found)}.values())[::-1]

    async def observed(self, group_id: str) -> Mapping[str, Any]:
        """The counts of the group's rosters; none before the first."""
        return await self._store.observed(group_id)

    async def find_task(self, group_id: str, task_id: str) -> Task | None:
        """An open task of the group."""
        return next((each for each in await self.tasks(group_id) if each.id == task_id), None)

    async def done(self, group_id: str, task_id: str) -> None:
        """An admin says that a task is done. The word of an admin counts as a roster of one person."""
        task = await self.find_task(group_id, task_id)
        if task is None:
            return
        await self._store.finish(task_id, self._now())
        if task.kind is not TaskKind.HAND_OVER:
            await self._mark(group_id, task.member_id, present=task.kind is TaskKind.ADD)

    async def _mark(self, group_id: str, member_id: str, *, present: bool) -> None:
        core = self._core

        async def body(work: UnitOfWork) -> None:
            group = (await core.store.groups([group_id], work.session)).get(group_id)
            placement = (await core.store.placements([member_id], work.session)).get(member_id)
            if group is None or placement is None:
                return
            known = await core.observations.by_pair([(group_id, member_id)], work.session)
            before = known.get(observation_id(group_id, member_id))
            if before is None:  # erased, or nothing was observed that could be wrong now
                return
            start = seated(before, group, placement.by_group)
            after = replace(seen(start, self._now(), present=present), changed_at=self._now())
            if (event := observed(start, after)) is not None:
                after = replace(after, sequence=placement.sequence + 1)
                work.stage(event, after.sequence, Origin.here())
                await core.observations.renumber({member_id: after.sequence}, work.session)
            await core.observations.save([Changed(before, after)], work.session)

        await core.runtime.outbox.transact(body)

    def _removal(self, group_id: str, member_id: str) -> Task:
        id_ = f"{TaskKind.REMOVE}/{observation_id(group_id, member_id)}"
        return Task(id_, group_id, TaskKind.REMOVE, member_id, self._now())

    async def _recount(self, groups: Sequence[Group], work: UnitOfWork, origin: Origin) -> None:
        admins = Counter(
            each.group_id for each in await self._store.admins([g.id for g in groups], work.session)
        )
        changed = [
            replace(g, admins=admins[g.id], version=g.version + 1, updated_at=self._now())
            for g in groups
            if g.admins != admins[g.id]
        ]
        for group in changed:
            event = GroupAdminsChanged(
                group_id=group.id,
                unit=group.unit,
                kind=group.kind,
                ordinal=group.ordinal,
                admins=group.admins,
            )
            work.stage(event, group.version, origin)
        await self._core.store.save_groups(changed, {g.id for g in changed}, work.session)

    def _now(self) -> datetime:
        return self._core.runtime.server_clock.now()


def _task(kind: TaskKind, each: Observation) -> Task:
    return Task(f"{kind}/{each.id}", each.group_id, kind, each.member_id, each.changed_at)
