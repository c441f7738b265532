"""Placing members inside a transaction: read, let the domain decide, write in bulk, stage the events.

The snapshot that a transaction reads and MongoDB's write conflicts make the last seat safe: of two consumers
that take it at once, one is aborted and sees the other's work when it runs again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from services.groups.core.core import Core
from services.groups.core.domain import Group, Placement, PlacementState
from services.groups.placement.domain import (
    Change,
    Seating,
    is_newer,
    seat_members,
    units_short_of_seats,
)
from services.groups.placement.store import PlacementStore
from services.shared.contracts.base import Event
from services.shared.contracts.groups import (
    GroupMemberAssigned,
    GroupMemberRedrawn,
    GroupMemberRemoved,
    GroupMemberWaiting,
)
from services.shared.errors import NotFoundError
from services.shared.identity import Identity
from services.shared.ids import new_id
from services.shared.messaging import Origin, UnitOfWork, is_leap, leap_error

_OUTCOMES: Final[Mapping[type[Event], str]] = {
    GroupMemberAssigned: "assigned",
    GroupMemberWaiting: "waiting",
    GroupMemberRemoved: "removed",
    GroupMemberRedrawn: "redrawn",
}
"""Labels of the metric, by the event that tells of the decision."""


class ChangeRequest(NamedTuple):
    """A change with the event or request that it comes from."""

    change: Change
    origin: Origin


class PlacementService:
    def __init__(self, core: Core, store: PlacementStore) -> None:
        self._core = core
        self._store = store

    async def apply(
        self, requests: Sequence[ChangeRequest], work: UnitOfWork, *, again: bool = False
    ) -> None:
        """Carry out the changes that are not stale: four reads and two bulk writes, however many they are.

        `again` is for members who wait: their last change is carried out once more, so it is not stale.
        """
        core, session = self._core, work.session
        placements = await core.store.placements([change.member_id for change, _ in requests], session)
        due = requests if again else _due(requests, placements, work)
        if not due:
            return
        units = await core.store.live_units({change.unit for change, _ in due}, session)
        # Who is to be in a unit that was retired meanwhile is in the one that stands for it, if there is one.
        changes = [
            change._replace(unit=units[change.unit].code) if change.unit in units else change
            for change, _ in due
        ]
        unit_names = {unit.code: unit.name for unit in units.values()}
        left = {placement.group_id for placement in placements.values() if placement.group_id}
        seats = await self._store.seats({change.unit for change in changes}, left, session)
        last_ordinals = await self._store.last_ordinals(units_short_of_seats(changes, seats), session)
        now = core.runtime.server_clock.now()
        seating = seat_members(
            changes,
            placements,
            seats,
            last_ordinals,
            unit_names,
            capacity=core.settings.group_capacity,
            new_id=new_id,
            now=now,
        )
        for (_, origin), step in zip(due, seating.steps, strict=True):
            work.stage_all(step.events, origin)
        work.after_commit(partial(self._count, seating))
        # Groups first: there two transactions conflict, and the loser has then written nothing in vain.
        await self._store.save_groups(seating, now, session)
        await core.store.save_placements([step.state for step in seating.steps], placements, session)

    async def groups_of(self, member_ids: Sequence[str], work: UnitOfWork) -> dict[str, tuple[str, ...]]:
        """The groups in which these members have a seat, for those who have one."""
        placements = await self._core.store.placements(member_ids, work.session)
        return {id_: (each.group_id,) for id_, each in placements.items() if each.group_id is not None}

    async def seated(self, member_ids: Sequence[str], work: UnitOfWork) -> dict[str, bool]:
        """Whether these members have a seat or wait for one, for those who were placed."""
        placements = await self._core.store.placements(member_ids, work.session)
        return {id_: each.state is not PlacementState.LEFT for id_, each in placements.items()}

    async def placement_of(self, caller: Identity, member_id: str) -> Placement:
        """Raises: `NotFoundError` for a member who has no placement, or is outside the caller's units."""
        placement = (await self._core.store.placements([member_id])).get(member_id)
        if placement is None or not caller.can_access(placement.unit):
            raise NotFoundError
        return placement

    async def held(self, caller: Identity, member_id: str) -> tuple[Placement | None, Group | None]:
        """The member's placement and its group, if they have them.

        Raises: `NotFoundError` for a member outside the caller's units; for one without a placement, who may
        be anywhere, unless the caller has all units.
        """
        placement = (await self._core.store.placements([member_id])).get(member_id)
        if placement is None:
            caller.check_all_units()
            return None, None
        caller.check_access(placement.unit)
        groups = await self._core.store.groups([placement.group_id] if placement.group_id else [])
        return placement, next(iter(groups.values()), None)

    async def waiting(
        self, caller: Identity, unit: str | None, after: tuple[str, str] | None, limit: int
    ) -> list[Placement]:
        """Placements that wait for a unit of this subtree, in the order of (unit, member id).

        Raises: `NotFoundError` for a unit outside the caller's.
        """
        return await self._store.waiting(caller.accessible_root(unit), after, limit)

    def _count(self, seating: Seating) -> None:
        metrics = self._core.metrics
        metrics.groups_created.inc(len(seating.created))
        told = Counter([type(event) for step in seating.steps for event, _ in step.events])
        for event, outcome in _OUTCOMES.items():
            metrics.placements.labels(outcome).inc(told[event])


def _due(
    requests: Sequence[ChangeRequest], placements: Mapping[str, Placement], work: UnitOfWork
) -> list[ChangeRequest]:
    """The changes that are not stale; an event whose sequence leaps is refused."""
    due = []
    for request in requests:
        change, placement = request.change, placements.get(request.change.member_id)
        if is_leap(change.sequence, placement.member_sequence if placement else 0):
            work.refuse(request.origin.causation_id or "", leap_error())
        elif is_newer(change, placement):
            due.append(request)
    return due
