"""Events of members that change who may run a group, or who does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.groups.admins.domain import HeldRole, RoleHolder
from services.groups.admins.service import AdminService
from services.groups.admins.store import AdminStore
from services.shared.contracts.base import Envelope
from services.shared.contracts.members import (
    MemberErasureRequested,
    MemberJoined,
    MemberLeft,
    MemberMerged,
    MemberRolesChanged,
    MemberSnapshot,
)
from services.shared.messaging import Origin, Subscriptions, UnitOfWork, newer


class AdminHandlers:
    def __init__(self, service: AdminService, store: AdminStore) -> None:
        self._service = service
        self._store = store

    async def roles(self, events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        """One read and one bulk write; neither for members without roles, who are nearly all."""
        told = [event for event in events if isinstance(event.data, MemberRolesChanged) or event.data.roles]
        if told:
            await self._learn(told, work)

    async def gone(self, events: Sequence[Envelope[MemberLeft | MemberMerged]], work: UnitOfWork) -> None:
        """A member who has left runs no group any more, and has no role."""
        ids = dict.fromkeys(event.subject for event in events)
        known = await self._store.holders(ids, work.session)
        await self._learn([event for event in events if event.subject in known], work)
        await self._service.leave(list(ids), work, Origin.of(events[0]))
        merged = [event.subject for event in events if isinstance(event.data, MemberMerged)]
        if merged:
            await self._service.merged(merged, work)

    async def erase(self, requests: Sequence[Envelope[MemberErasureRequested]], work: UnitOfWork) -> None:
        """Keep nothing of them but the tasks to remove them, which name the erasure."""
        await self.gone(requests, work)  # type: ignore[arg-type]
        await self._service.remove_erased(
            {request.subject: request.data.erasure_id for request in requests}, work
        )

    async def _learn(self, events: Sequence[Envelope[Any]], work: UnitOfWork) -> None:
        known = await self._store.holders([event.subject for event in events], work.session)
        latest: dict[str, RoleHolder] = {}
        for event in newer(events, lambda id_: known[id_].sequence if id_ in known else 0, work):
            latest[event.subject] = RoleHolder(event.subject, event.sequence, _roles(event.data))
        await self._store.save_holders(list(latest.values()), known, work.session)


def _roles(told: Any) -> tuple[HeldRole, ...]:
    """`member.joined` and snapshots name the roles alone: they are in the member's own unit."""
    match told:
        case MemberRolesChanged():
            return tuple(HeldRole(each.role, each.unit, each.until) for each in told.roles)
        case MemberJoined():
            return tuple(HeldRole(role, told.unit) for role in told.roles)
        case MemberSnapshot() if told.status == "active":
            return tuple(HeldRole(role, told.unit) for role in told.roles)
        case _:
            return ()


def subscriptions(service: AdminService, store: AdminStore) -> Subscriptions:
    handlers = AdminHandlers(service, store)
    return {
        MemberJoined: handlers.roles,
        MemberSnapshot: handlers.roles,
        MemberRolesChanged: handlers.roles,
        MemberLeft: handlers.gone,
        MemberMerged: handlers.gone,
        MemberErasureRequested: handlers.erase,
    }
