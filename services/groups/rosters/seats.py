"""Members who change after a roster: what it showed is then right or wrong for another reason, or is to be
forgotten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from services.groups.core.core import Core
from services.groups.core.observations.domain import Changed, seated
from services.shared.contracts.base import Numbered
from services.shared.contracts.groups import GroupMemberAssigned, GroupMemberRedrawn, GroupMemberRemoved
from services.shared.messaging import UnitOfWork


class SeatFollower:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def seats_changed(self, events: Sequence[Numbered], work: UnitOfWork) -> None:
        """Three reads and two bulk writes at most; none for members of whom nothing was observed, and none at
        all for those who have just joined."""
        moved = {
            event.member_id
            for event, sequence in events
            if sequence > 1
            and isinstance(event, GroupMemberRemoved | GroupMemberAssigned | GroupMemberRedrawn)
        }
        core, session = self._core, work.session
        known = await core.observations.of_members(moved, session) if moved else {}
        if not known:
            return
        placements = await core.store.placements({each.member_id for each in known.values()}, session)
        groups = await core.store.groups({each.group_id for each in known.values()}, session)
        now = core.runtime.server_clock.now()
        changes = []
        for each in known.values():
            placement, group = placements.get(each.member_id), groups.get(each.group_id)
            if placement is None or group is None:
                continue
            after = seated(each, group, placement.by_group)
            if after != each:
                changes.append(Changed(each, replace(after, changed_at=now)))
        await core.observations.save(changes, session)

    async def erased(
        self, held: Mapping[str, Sequence[str]], work: UnitOfWork
    ) -> Mapping[str, Mapping[str, int]]:
        known = await self._core.observations.of_members(held, work.session)
        await self._core.observations.forget(list(known.values()), work.session)
        counts = Counter(each.member_id for each in known.values())
        return {member_id: {"observations": counts[member_id]} for member_id in held}
