"""The members of units that were split: who is left, and who belongs to which part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from services.members.core.core import Core
from services.members.core.domain import Status
from services.members.core.errors import unit_not_found
from services.members.redrawing.domain import Refusal
from services.members.redrawing.following import MemberRedrawing
from services.members.redrawing.store import UNMAPPED, RedrawingStore
from services.shared.identity import Identity
from services.shared.messaging import Origin, UnitOfWork


class Unmapped(NamedTuple):
    member_id: str
    unit: str
    parts: tuple[str, ...]


class Mapped(NamedTuple):
    """How many were moved, who is there already, and who was refused for what reason."""

    moved: int
    unchanged: int
    refused: dict[str, Refusal]


class Mappings:
    def __init__(self, core: Core, store: RedrawingStore, redrawing: MemberRedrawing) -> None:
        self._outbox = core.runtime.outbox
        self._successions = core.runtime.successions
        self._store = store
        self._redrawing = redrawing

    async def unmapped(
        self, caller: Identity, unit: str | None, after: tuple[str, str] | None, limit: int
    ) -> list[Unmapped]:
        """In the order of (unit, id). Raises: `NotFoundError` for a unit outside the caller's."""
        root = caller.accessible_root(unit)
        found: list[tuple[str, str]] = []
        codes, start = [after[0]] if after else [], after[0] if after else ""
        while len(found) < limit and (more := await self._store.codes(UNMAPPED, start, root)):
            found += await self._store.members_in([*codes, *more], after, limit - len(found))
            codes, after, start = [], None, more[-1]
        if codes and len(found) < limit:  # the last unit of all
            found += await self._store.members_in(codes, after, limit - len(found))
        parts = await self._successions.parts(list({unit for unit, _ in found}))
        return [Unmapped(id_, unit, parts.get(unit, ())) for unit, id_ in found]

    async def map(self, caller: Identity, wanted: Sequence[tuple[str, str]], origin: Origin) -> Mapped:
        """Move members of units that were split to the parts that they belong to; they keep their seats. All
        that can be is done, and again changes nothing.

        `wanted` are at most a few hundred pairs of a member and a unit.

        Raises: `NotFoundError` for a unit outside the caller's.
        """
        if not all(caller.can_access(unit) for _, unit in wanted):
            raise unit_not_found()

        async def write(work: UnitOfWork) -> Mapped:
            ids = [member_id for member_id, _ in wanted]
            members = await self._store.members(ids, work.session)
            parts = await self._successions.parts(
                list({member.unit for member in members.values()}), work.session
            )
            refused: dict[str, Refusal] = {}
            units: dict[str, dict[str, str]] = {}
            unchanged = 0
            for member_id, unit in wanted:
                member = members.get(member_id)
                if member is None or member.status != Status.ACTIVE or not caller.can_access(member.unit):
                    refused[member_id] = Refusal.UNKNOWN
                elif member.unit == unit:
                    unchanged += 1
                elif unit not in parts[member.unit]:
                    refused[member_id] = Refusal.NOT_A_PART
                else:
                    units[member_id] = {member.unit: unit}
            mapped = {id_: members[id_] for id_ in units}
            moved, _ = await self._redrawing.save(mapped, units, origin, work)
            return Mapped(moved, unchanged, refused)

        return await self._outbox.transact(write)
