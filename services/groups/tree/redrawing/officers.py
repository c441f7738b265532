"""The officers of each unit, as the events of members tell: a comparison says whom a change concerns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.groups.tree.redrawing.store import RedrawingStore
from services.shared.contracts.base import Envelope
from services.shared.contracts.members import (
    MemberErasureRequested,
    MemberLeft,
    MemberMerged,
    MemberRolesChanged,
)
from services.shared.messaging import Subscriptions, UnitOfWork


class Officers:
    def __init__(self, store: RedrawingStore) -> None:
        self._store = store

    def subscriptions(self) -> Subscriptions:
        return {
            MemberRolesChanged: self.change,
            MemberLeft: self.leave,
            MemberMerged: self.leave,
            MemberErasureRequested: self.leave,
        }

    async def change(self, events: Sequence[Envelope[MemberRolesChanged]], work: UnitOfWork) -> None:
        roles = {
            event.subject: (
                event.sequence,
                [{"role": held.role, "unit": held.unit} for held in event.data.roles],
            )
            for event in events
        }
        await self._store.hold_roles(roles, work.session)

    async def leave(self, events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        await self._store.hold_roles({e.subject: (e.sequence, []) for e in events}, work.session)
