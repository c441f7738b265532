"""Placements as requests and handlers ask for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from services.groups.core.core import Core
from services.groups.core.domain import Group, Placement
from services.groups.core.seating.service import ChangeRequest
from services.groups.placement.store import PlacementStore
from services.shared.errors import NotFoundError
from services.shared.identity import Identity
from services.shared.messaging import UnitOfWork


class PlacementService:
    def __init__(self, core: Core, store: PlacementStore) -> None:
        self._core = core
        self._store = store

    async def apply(self, requests: Sequence[ChangeRequest], work: UnitOfWork) -> None:
        """Carry out the requests that are not stale."""
        await self._core.seating.apply(requests, work)

    async def groups_of(self, member_ids: Sequence[str], work: UnitOfWork) -> dict[str, tuple[str, ...]]:
        """The groups in which these members have a seat, for those who have one."""
        placements = await self._core.store.placements(member_ids, work.session)
        return {id_: each.group_ids for id_, each in placements.items() if each.group_ids}

    async def erased(
        self, held: Mapping[str, Sequence[str]], work: UnitOfWork
    ) -> Mapping[str, Mapping[str, int]]:
        """Have the other features destroy what they keep of these members: what that was, by kind."""
        return await self._core.erased(held, work)

    async def placement_of(self, caller: Identity, member_id: str) -> Placement:
        """Raises: `NotFoundError` for a member who has no placement, or is outside the caller's units."""
        placement = (await self._core.store.placements([member_id])).get(member_id)
        if placement is None or not caller.can_access(placement.unit):
            raise NotFoundError
        return await self._as_observed(placement)

    async def held(self, caller: Identity, member_id: str) -> tuple[Placement | None, dict[str, Group]]:
        """The member's placement, if they have one, and its groups by id.

        Raises: `NotFoundError` for a member outside the caller's units; for one without a placement, who may
        be anywhere, unless the caller has all units.
        """
        placement = (await self._core.store.placements([member_id])).get(member_id)
        if placement is None:
            caller.check_all_units()
            return None, {}
        caller.check_access(placement.unit)
        groups = await self._core.store.groups(placement.group_ids)
        return await self._as_observed(placement), groups

    async def waiting(
        self, caller: Identity, unit: str | None, after: tuple[str, str] | None, limit: int
    ) -> list[Placement]:
        """Placements that wait for a unit of this subtree, in the order of (unit, member id).

        Raises: `NotFoundError` for a unit outside the caller's.
        """
        return await self._store.waiting(caller.accessible_root(unit), after, limit)

    async def _as_observed(self, placement: Placement) -> Placement:
        """With the states that rosters and sent invites show."""
        pairs = [(group_id, placement.member_id) for group_id in placement.group_ids]
        found = (await self._core.observations.by_pair(pairs)).values()
        states = {each.group_id: each.state for each in found}
        if placement.seats is not None:
            seats = [replace(s, state=states.get(s.group_id or "", s.state)) for s in placement.seats]
            placement = replace(placement, seats=tuple(seats))
        return replace(placement, state=states.get(placement.group_id or "", placement.state))
