"""Placements as requests and handlers ask for them."""

from __future__ import annotations

from collections.abc import Sequence

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

    async def placement_of(self, caller: Identity, member_id: str) -> Placement:
        """Raises: `NotFoundError` for a member who has no placement, or is outside the caller's units."""
        placement = (await self._core.store.placements([member_id])).get(member_id)
        if placement is None or not caller.can_access(placement.unit):
            raise NotFoundError
        return placement

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
        return placement, await self._core.store.groups(placement.group_ids)

    async def waiting(
        self, caller: Identity, unit: str | None, after: tuple[str, str] | None, limit: int
    ) -> list[Placement]:
        """Placements that wait for a unit of this subtree, in the order of (unit, member id).

        Raises: `NotFoundError` for a unit outside the caller's.
        """
        return await self._store.waiting(caller.accessible_root(unit), after, limit)
