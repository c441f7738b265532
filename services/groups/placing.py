"""Placing members inside a transaction: read, let the domain decide, write in bulk, stage the events.

The snapshot that a transaction reads and MongoDB's write conflicts make the last seat safe: of two consumers that
take it at once, one is aborted and sees the other's work when it runs again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.groups.domain import Change, Group, GroupState, Placement, PlacementState, Seating, fresh
from services.groups.metrics import GroupsMetrics
from services.groups.store import Store
from services.shared.contracts.groups import (
    GroupCreated,
    GroupFilled,
    GroupMemberAssigned,
    GroupMemberRemoved,
    GroupMemberWaiting,
)
from services.shared.ids import new_id
from services.shared.messaging import Origin, UnitOfWork


@dataclass(frozen=True, slots=True)
class Asked:
    """A change with the event or request it comes from."""

    change: Change
    origin: Origin


class Placing:
    def __init__(self, store: Store, metrics: GroupsMetrics, *, capacity: int) -> None:
        self._store = store
        self._metrics = metrics
        self._capacity = capacity

    async def apply(self, asked: Sequence[Asked], work: UnitOfWork, *, again: bool = False) -> None:
        """Carry out the changes that are not stale: four reads and two bulk writes, however many they are.

        `again` is for members who wait: their last change is carried out once more, so it is not stale.
        """
        placements = await self._store.placements([a.change.member_id for a in asked], work.session)
        wanted = {c.member_id for c in fresh([a.change for a in asked], placements)}
        due = [a for a in asked if again or a.change.member_id in wanted]
        if not due:
            return
        seating = await self._seating(due, placements, work)
        known = await self._store.known_units({a.change.unit for a in due}, work.session)
        run = _Run(work, seating, self._metrics)
        results = [run.settle(placements.get(a.change.member_id), a, a.change.unit in known) for a in due]
        # The groups first: it is there that two transactions meet, and the one that loses has then written nothing in vain.
        await self._store.save_groups(seating, known, work.session)
        await self._store.save_placements(results, work.session)

    async def _seating(
        self, due: Sequence[Asked], placements: dict[str, Placement], work: UnitOfWork
    ) -> Seating:
        demand = Counter(a.change.unit for a in due)
        left = {p.group_id for p in placements.values() if p.group_id}
        groups = await self._store.seatable_groups(demand, left, work.session)
        free = Counter[str]()
        for group in groups.values():
            free[group.unit] += max(0, group.capacity - group.taken)
        # The highest ordinal is asked for only where a new group may be needed.
        last = await self._store.last_ordinals([u for u, n in demand.items() if n > free[u]], work.session)
        return Seating(groups, last, self._capacity, new_id)


@dataclass(slots=True)
class _Run:
    """One pass over the changes of one transaction."""

    work: UnitOfWork
    seating: Seating
    metrics: GroupsMetrics

    def settle(self, placement: Placement | None, asked: Asked, unit_known: bool) -> Placement:
        change = asked.change
        if placement is None:
            placement = Placement(change.member_id, 0, change.unit, PlacementState.WAITING_UNIT)
        placement.member_sequence = change.sequence
        if change.leaves:
            self._vacate(placement, asked.origin, leaves=True)
            placement.unit, placement.state = change.unit, PlacementState.LEFT
            return placement
        if placement.unit == change.unit and (
            placement.seated or (placement.told_to_wait and not unit_known)
        ):
            return placement
        self._vacate(placement, asked.origin, leaves=False)
        placement.unit = change.unit
        if unit_known:
            self._seat(placement, asked.origin)
        else:
            self._wait(placement, asked.origin)
        return placement

    def _seat(self, placement: Placement, origin: Origin) -> None:
        before = len(self.seating.created)
        group = self.seating.take(placement.unit)
        if len(self.seating.created) > before:
            self._group_event(_created, group, origin)
            self.work.after_commit(self.metrics.groups_created.inc)
        placement.group_id, placement.ordinal, placement.kind = group.id, group.ordinal, group.kind
        placement.state = PlacementState.ASSIGNED
        placement.sequence += 1
        assigned = GroupMemberAssigned(
            member_id=placement.member_id,
            group_id=group.id,
            unit=group.unit,
            kind=group.kind,
            ordinal=group.ordinal,
            invite_ready=group.invite_ready,
            member_sequence=placement.member_sequence,
        )
        self.work.stage(assigned, placement.sequence, origin)
        if group.state is GroupState.FULL:
            group.version += 1
            self._group_event(_filled, group, origin)
        self.work.after_commit(self.metrics.placements.labels("assigned").inc)

    def _wait(self, placement: Placement, origin: Origin) -> None:
        placement.state = PlacementState.WAITING_UNIT
        placement.sequence += 1
        waiting = GroupMemberWaiting(
            member_id=placement.member_id,
            unit=placement.unit,
            reason="waiting_unit",
            member_sequence=placement.member_sequence,
        )
        self.work.stage(waiting, placement.sequence, origin)
        self.work.after_commit(self.metrics.placements.labels("waiting").inc)

    def _vacate(self, placement: Placement, origin: Origin, *, leaves: bool) -> None:
        if placement.group_id is None:
            return
        group = self.seating.release(placement.group_id)
        placement.group_id, placement.ordinal = None, None
        placement.sequence += 1
        removed = GroupMemberRemoved(
            member_id=placement.member_id,
            group_id=group.id,
            unit=group.unit,
            kind=group.kind,
            ordinal=group.ordinal,
            reason="left" if leaves else "moved",
            member_sequence=placement.member_sequence,
        )
        self.work.stage(removed, placement.sequence, origin)
        self.work.after_commit(self.metrics.placements.labels("removed").inc)

    def _group_event(
        self, make: Callable[[Group], GroupCreated | GroupFilled], group: Group, origin: Origin
    ) -> None:
        self.work.stage(make(group), group.version, origin)


def _created(group: Group) -> GroupCreated:
    return GroupCreated(
        group_id=group.id, unit=group.unit, kind=group.kind, ordinal=group.ordinal, capacity=group.capacity
    )


def _filled(group: Group) -> GroupFilled:
    return GroupFilled(
        group_id=group.id, unit=group.unit, kind=group.kind, ordinal=group.ordinal, capacity=group.capacity
    )
