"""Grievances: filed, read, answered and closed. Whoever is shown their words leaves a record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from services.members.core.core import Core
from services.members.core.errors import not_answered
from services.members.grievances.domain import Grievance, NotAnsweredError, Words, change
from services.members.grievances.store import WORDS, GrievanceStore, Stored
from services.shared.database import ServerClock
from services.shared.database.idempotency import IdempotentRequest, MadeIds
from services.shared.errors import NotFoundError, StaleVersionError
from services.shared.identity import Identity
from services.shared.ids import new_id
from services.shared.messaging import UnitOfWork
from services.shared.runtime.slow_gauges import Reading

VIA: Final = "grievance"


@dataclass(frozen=True, slots=True)
class Shown:
    grievance: Grievance
    words: Words


class Grievances:
    def __init__(self, core: Core, store: GrievanceStore) -> None:
        self._made = MadeIds(core.runtime.database, core.runtime.server_clock)
        self._clock = core.runtime.server_clock
        self._outbox = core.runtime.outbox
        self._reader = core.reader
        self._vault = core.vault
        self._store = store
        self._term = timedelta(days=core.settings.grievance_days)

    async def file(
        self,
        caller: Identity,
        *,
        member_id: str | None,
        unit: str,
        kind: str,
        text: str,
        request: IdempotentRequest | None,
    ) -> Shown:
        """The new grievance, or the one that the same request made before, as it is now. That of a member
        belongs to the member's unit, whatever `unit` says.

        Raises: `NotFoundError` for a member or unit outside the caller's; `KeyReusedError`.
        """
        if member_id is not None:
            unit = (await self._reader.find(caller, member_id)).member.unit
        caller.check_access(unit)
        now, words = self._clock.now(), Words(text)
        grievance = Grievance(
            id=new_id(),
            member_id=member_id,
            unit=unit,
            kind=kind,
            opened_at=now,
            opened_by=caller.subject,
            due_at=now + self._term,
            changed_at=now,
            changed_by=caller.subject,
        )
        [sealed] = await self._vault.seal([(grievance.id, WORDS.encode(words))])

        async def add(work: UnitOfWork) -> bool:
            new = await self._made.remember(request, grievance.id, work.session)
            if new:
                await self._store.add(grievance, sealed, work.session)
            return new

        if await self._outbox.transact(add):
            return Shown(grievance, words)
        earlier = await self._made.earlier(request)
        assert earlier is not None
        return await self.get(caller, earlier)

    async def get(self, caller: Identity, grievance_id: str) -> Shown:
        """Raises: `NotFoundError`."""
        stored = await self._store.find(grievance_id)
        if stored is None:
            raise NotFoundError
        caller.check_access(stored.grievance.unit)
        return Shown(stored.grievance, await self._open(caller, stored))

    async def page(
        self,
        caller: Identity,
        *,
        unit: str | None,
        state: str | None,
        member_id: str | None,
        after: str | None,
        limit: int,
    ) -> list[Grievance]:
        """At most `limit` after the id `after`, the oldest first, without their words.

        Raises: `NotFoundError` for a unit outside the caller's.
        """
        return await self._store.page(caller.accessible_root(unit), state, member_id, after, limit)

    async def change(
        self, caller: Identity, grievance_id: str, version: int, *, answer: str | None, close: bool
    ) -> Shown:
        """Answer or close a version.

        Raises: `NotFoundError`, `StaleVersionError`, `ConflictError` (closed without an answer).
        """

        async def write(work: UnitOfWork) -> Shown:
            stored = await self._store.find(grievance_id, work.session)
            if stored is None:
                raise NotFoundError
            old = stored.grievance
            caller.check_access(old.unit)
            if old.version != version:
                raise StaleVersionError
            words = await self._open(caller, stored)
            now = self._clock.now()
            try:
                new = Shown(*change(old, words, answer=answer, close=close, by=caller.subject, now=now))
            except NotAnsweredError:
                raise not_answered() from None
            if new.grievance != old:
                [sealed] = await self._vault.seal([(old.id, WORDS.encode(new.words))])
                await self._store.replace(new.grievance, sealed, work.session)
            return new

        return await self._outbox.transact(write)

    async def _open(self, caller: Identity, stored: Stored) -> Words:
        """The words; that they were read is recorded first."""
        grievance = stored.grievance
        ids = [grievance.member_id] if grievance.member_id else []
        await self._reader.record(caller, ids, VIA, (f"grievance:{grievance.id}", grievance.unit))
        [document] = await self._vault.open([(grievance.id, stored.sealed)])
        return WORDS.decode(document)


def overdue(store: GrievanceStore, clock: ServerClock, registry: CollectorRegistry) -> Reading:
    gauge = Gauge(
        "sangathan_members_grievances_overdue",
        "Grievances that have no answer although they were due.",
        registry=registry,
    )

    async def read() -> None:
        gauge.set(await store.overdue(clock.now()))

    return read
