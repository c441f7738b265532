"""Invites that were sent: who has one, and since when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from services.groups.core.core import Core
from services.groups.core.observations.domain import (
    Changed,
    Observation,
    invited,
    new_observation,
    observation_id,
)
from services.shared.contracts.base import Envelope
from services.shared.contracts.notifications import NotificationSent
from services.shared.messaging import UnitOfWork


class InviteHandlers:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def sent(self, events: Sequence[Envelope[NotificationSent]], work: UnitOfWork) -> None:
        """Three reads and one bulk write. Whoever has lost the seat meanwhile is not noted."""
        told = [(event.data.group_id, event.data.member_id, event.time) for event in events]
        times = {observation_id(group, member): (group, member, at) for group, member, at in told if group}
        if not times:
            return
        core, session = self._core, work.session
        known = await core.observations.by_pair([each[:2] for each in times.values()], session)
        placements = await core.store.placements([member for _, member, _ in times.values()], session)
        groups = await core.store.groups({group for group, _, _ in times.values()}, session)
        now = core.runtime.server_clock.now()
        changes = []
        for id_, (group_id, member_id, at) in times.items():
            before: Observation | None = known.get(id_)
            start = before
            if start is None:
                placement, group = placements.get(member_id), groups.get(group_id)
                if placement is None or group is None or group_id not in placement.by_group:
                    continue
                start = new_observation(group, placement, now)
            after = invited(start, at)
            if after != before:
                changes.append(Changed(before, replace(after, changed_at=now)))
        await core.observations.save(changes, session)
