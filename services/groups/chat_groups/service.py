"""Groups as an administrator sees them: found, read with their members, changed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from services.groups.chat_groups.domain import CapacityError, GroupPatch, patched
from services.groups.chat_groups.store import ChatGroupStore
from services.groups.core.core import Core
from services.groups.core.domain import Group, PlacementState, Seat
from services.groups.core.errors import capacity_below_seats_taken, group_is_retired
from services.groups.core.observations.domain import observation_id
from services.shared.database import Session
from services.shared.errors import NotFoundError, StaleVersionError
from services.shared.identity import Identity
from services.shared.messaging import Origin, UnitOfWork

_OBSERVED: Final = (PlacementState.INVITED.value, PlacementState.JOINED.value, PlacementState.LEFT.value)
INVITES_SCOPE: Final = "invites:read"


class ChatGroupService:
    def __init__(self, core: Core, store: ChatGroupStore) -> None:
        self._core = core
        self._store = store

    async def find(
        self,
        caller: Identity,
        unit: str | None,
        kind: str | None,
        state: str | None,
        after: tuple[str, str] | None,
        limit: int,
        *,
        archived: bool = False,
    ) -> list[Group]:
        """The groups of a subtree that are in use, or those archived, in the order of (unit, id).

        Raises: `NotFoundError` for a unit outside the caller's.
        """
        root = caller.accessible_root(unit)
        return await self._store.list_groups(root, kind, state, after, limit, archived=archived)

    async def resolve(self, caller: Identity, ids: Sequence[str]) -> list[Group]:
        """The groups of these ids that exist within the caller's units."""
        found = await self._core.store.groups(ids)
        return [group for group in found.values() if caller.can_access(group.unit)]

    async def get(self, caller: Identity, id_: str, session: Session | None = None) -> Group:
        """Raises: `NotFoundError`."""
        group = (await self._core.store.groups([id_], session)).get(id_)
        if group is None or not caller.can_access(group.unit):
            raise NotFoundError
        return group

    async def shown(self, caller: Identity, groups: Sequence[Group]) -> list[Group]:
        """The groups as this caller may see them: without their invite links, unless with `INVITES_SCOPE`."""
        if not caller.has_scope(INVITES_SCOPE):
            return [replace(group, invite_link=None) for group in groups]
        return await self._core.links.opened(groups)

    async def members(
        self, caller: Identity, id_: str, state: str | None, after: str | None, limit: int
    ) -> list[tuple[str, Seat]]:
        """A group's members and their seats, in the order of their ids, each in the state that rosters show.
        Raises: `NotFoundError`."""
        group = await self.get(caller, id_)
        seen = self._core.observations
        if state in _OBSERVED:
            found = await seen.in_group(id_, after, limit, state=state)
            placements = await self._core.store.placements([each.member_id for each in found])
            seats = [(each, placements[each.member_id].by_group.get(id_)) for each in found]
            return [(each.member_id, replace(seat, state=each.state)) for each, seat in seats if seat]
        page: list[tuple[str, Seat]] = []
        while len(page) < limit:
            rows = await self._store.members(group, state, after, limit)
            observed = await seen.by_pair([(id_, row.member_id) for row in rows])
            for row in rows:
                each = observed.get(observation_id(id_, row.member_id))
                seat = replace(row.by_group[id_], state=each.state) if each else row.by_group[id_]
                page += [(row.member_id, seat)] if state is None or seat.state == state else []
            if len(rows) < limit:
                break
            after = rows[-1].member_id
        return page[:limit]

    async def change(
        self, caller: Identity, id_: str, patch: GroupPatch, expected_version: int, origin: Origin
    ) -> Group:
        """Apply a merge patch to a version; the group as it is now.

        Raises: `NotFoundError`; `StaleVersionError`; `InvalidError` when fewer seats are wanted than taken;
            `ConflictError` for a group that was archived.
        """

        now = self._core.runtime.clock.now()

        async def body(work: UnitOfWork) -> Group:
            [group] = await self._core.links.opened([await self.get(caller, id_, work.session)])
            if group.version != expected_version:
                raise StaleVersionError
            if group.retired == "archived":
                raise group_is_retired()
            try:
                step = patched(group, patch, await self._unit_name(group, patch, work.session), now)
            except CapacityError:
                raise capacity_below_seats_taken() from None
            if step.events:
                sealed = await self._core.links.sealed(step.state, before=group)
                await self._core.store.save_groups([sealed], {id_}, work.session)
                work.stage_all(step.events, origin)
                await self._core.link_changed(caller, group, step.state, work)
            return step.state

        return await self._core.runtime.outbox.transact(body)

    async def set_link(self, caller: Identity, id_: str, link: str | None) -> Group:
        """Set or withdraw the link, whatever version the group has. Raises: `NotFoundError`."""
        group = await self.get(caller, id_)
        return await self.change(caller, id_, {"invite_link": link}, group.version, Origin.here())

    async def _unit_name(self, group: Group, patch: GroupPatch, session: Session) -> Mapping[str, str] | None:
        """The name of the group's unit, if the patch needs it and the unit is known."""
        if None not in patch.get("name", {}).values():
            return None
        unit = (await self._core.store.units([group.unit], session)).get(group.unit)
        return unit.name if unit else None
