"""Changes of one member that are decided and written in one transaction, so that none is lost to a race."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from services.members.core.domain import Member
from services.members.core.store import MemberStore
from services.shared.contracts.base import Step
from services.shared.errors import NotFoundError, StaleVersionError
from services.shared.identity import Identity
from services.shared.messaging import Origin, Outbox, UnitOfWork

Decide = Callable[[Member, UnitOfWork], Awaitable[Step[Member]]]
"""Decides about the member as it is now; may read and write more in the same transaction, and may run
several times."""


class MemberChanges:
    def __init__(self, outbox: Outbox, store: MemberStore) -> None:
        self._outbox = outbox
        self._store = store

    async def change(
        self,
        member_id: str,
        decide: Decide,
        origin: Origin,
        *,
        caller: Identity | None = None,
        version: int | None = None,
    ) -> Member:
        """The member after `decide`. A change of the same member meanwhile makes the transaction run again.

        `caller` None: the service itself changes the member. `version`: the one that the caller has seen.

        Raises: `NotFoundError`, `StaleVersionError`; whatever `decide` raises.
        """

        async def write(work: UnitOfWork) -> Member:
            record = await self._store.find(member_id, work.session)
            if record is None:
                raise NotFoundError
            member = record.member
            if caller is not None:
                caller.check_access(member.unit)
            if version is not None and version != member.version:
                raise StaleVersionError
            step = await decide(member, work)
            if step.events:
                saved = await self._store.save(step.state, work.session)
                assert saved, "what the transaction has read, it can write or must run again"
                work.stage_all(step.events, origin)
            return step.state

        return await self._outbox.transact(write)
