"""Roles of members: each change is a term, its record, the member's new roles and their event at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.members.core.core import Core
from services.members.core.domain import Member, Status
from services.members.core.errors import (
    ends_too_early,
    not_active,
    too_many_roles,
    unit_not_found,
    unknown_role,
)
from services.members.core.terms import RoleChange, RoleRecord, Term, record_of, with_roles
from services.members.roles.store import RoleStore
from services.shared.contracts.base import Step
from services.shared.contracts.members import MAX_ROLES
from services.shared.errors import NotFoundError
from services.shared.identity import Identity
from services.shared.ids import new_id
from services.shared.messaging import Origin, UnitOfWork


@dataclass(frozen=True, slots=True)
class Officer:
    """Somebody who holds a role now."""

    term: Term
    name: str


@dataclass(frozen=True, slots=True)
class Officers:
    """One page of terms and, in the same order, those who hold them as far as the caller may see them."""

    page: Sequence[Term]
    shown: Sequence[Officer]


class Roles:
    def __init__(self, core: Core, store: RoleStore, known: Sequence[str]) -> None:
        self._core = core
        self._clock = core.runtime.server_clock
        self._store = store
        self._known = frozenset(known)
        self._changed = core.metrics.changes.labels("roles")

    async def give(
        self,
        caller: Identity,
        member_id: str,
        place: tuple[str, str],
        since: datetime | None,
        until: datetime | None,
        version: int | None,
        origin: Origin,
    ) -> tuple[Member, Term]:
        """The member, and the term for `place` (role, unit). `since` None: from now, or as it was; `until`
        None: without an end.

        Raises: `NotFoundError` (also for a unit outside the caller's), `StaleVersionError`, `InvalidError`,
        `ConflictError` (has left; too many roles).
        """
        role, unit = place
        if not caller.can_access(unit):
            raise unit_not_found()
        term: Term

        async def decide(member: Member, work: UnitOfWork) -> Step[Member]:
            nonlocal term
            if role not in self._known:
                raise unknown_role()
            now = self._clock.now()
            terms = await self._settled(member, now, work)
            before = _at(terms, role, unit)
            start = since or (before.since if before else now)
            if until is not None and until <= max(now, start):
                raise ends_too_early()
            if member.status != Status.ACTIVE:
                raise not_active(member)
            if before is None and len(terms) >= MAX_ROLES:
                raise too_many_roles(MAX_ROLES)
            term = Term(
                id=before.id if before else new_id(),
                member_id=member_id,
                role=role,
                unit=unit,
                since=start,
                until=until,
            )
            touched: list[Term] = []
            if term != before:
                await self._store.save(term, now, work.session)
                change = RoleChange.CHANGED if before else RoleChange.GIVEN
                await self._store.record([record_of(term, change, now, caller.subject)], work.session)
                touched = [term, *([before] if before else [])]
                terms = [*(each for each in terms if each != before), term]
            return self._counted(with_roles(member, terms, now, touched), work)

        member = await self._core.changes.change(member_id, decide, origin, caller=caller, version=version)
        return member, term

    async def take(
        self, caller: Identity, member_id: str, place: tuple[str, str], version: int | None, origin: Origin
    ) -> None:
        """End the term for `place` (role, unit) now. Without one, nothing changes.

        Raises: `NotFoundError`, `StaleVersionError`.
        """
        if not caller.can_access(place[1]):
            raise unit_not_found()

        async def decide(member: Member, work: UnitOfWork) -> Step[Member]:
            now = self._clock.now()
            if member.status != Status.ACTIVE:
                return await self._ended(member, now, work, caller.subject)
            terms = await self._settled(member, now, work)
            if term := _at(terms, *place):
                terms.remove(term)
                await self._store.remove(term, work.session)
                taken = record_of(replace(term, until=now), RoleChange.TAKEN, now, caller.subject)
                await self._store.record([taken], work.session)
            return self._counted(with_roles(member, terms, now), work)

        await self._core.changes.change(member_id, decide, origin, caller=caller, version=version)

    async def settle(self, member_id: str) -> None:
        """Publish what time has begun and ended of a member's roles; again, nothing changes.

        A term of somebody who is no member any more, given while they left, ends, and nothing is published.
        Of somebody who was erased meanwhile, nothing is kept.
        """

        async def decide(member: Member, work: UnitOfWork) -> Step[Member]:
            now = self._clock.now()
            if member.status != Status.ACTIVE:
                return await self._ended(member, now, work)
            terms = await self._settled(member, now, work)
            for term in terms:
                await self._store.save(term, now, work.session)
            return self._counted(with_roles(member, terms, now), work)

        try:
            await self._core.changes.change(member_id, decide, Origin.here())
        except NotFoundError:
            await self._store.forget(member_id)

    async def of(self, caller: Identity, member_id: str) -> tuple[list[Term], list[RoleRecord]]:
        """A member's terms that have not ended, and the history of all.

        Raises: `NotFoundError`.
        """
        record = await self._core.reader.find(caller, member_id)
        now = self._clock.now()
        held = await self._store.of(member_id) if record.member.status == Status.ACTIVE else []
        terms = [term for term in held if not term.ended(now)]
        return terms, await self._store.history(member_id)

    async def officers(
        self,
        caller: Identity,
        unit: str,
        *,
        below: bool,
        role: str | None,
        after: tuple[str, str] | None,
        limit: int,
    ) -> Officers:
        """At most `limit` roles in the unit that are held now; `below`: and in all units below it.

        Somebody whose own unit lies outside the caller's, or who has left, is not shown.

        Raises: `NotFoundError`.
        """
        caller.check_access(unit)
        now = self._clock.now()
        page = await self._store.in_effect(unit, below=below, role=role, now=now, after=after, limit=limit)
        people = await self._store.people([term.member_id for term in page])
        shown = [
            Officer(term, people[term.member_id][0])
            for term in page
            if term.member_id in people and caller.can_access(people[term.member_id][1])
        ]
        return Officers(page, shown)

    async def _ended(
        self, member: Member, now: datetime, work: UnitOfWork, actor: str | None = None
    ) -> Step[Member]:
        await self._store.end(member.id, now, work.session, actor)
        return Step(member)

    async def _settled(self, member: Member, now: datetime, work: UnitOfWork) -> list[Term]:
        """The member's terms that have not ended; what time has changed since the last look is recorded."""
        held = {(role.role, role.unit) for role in member.roles}
        lasting: list[Term] = []
        records: list[RoleRecord] = []
        for term in await self._store.of(member.id, work.session):
            if term.ended(now):
                await self._store.remove(term, work.session)
                records.append(record_of(term, RoleChange.ENDED, now))
                continue
            lasting.append(term)
            if term.in_effect(now) and (term.role, term.unit) not in held:
                records.append(record_of(term, RoleChange.BEGAN, now))
        await self._store.record(records, work.session)
        return lasting

    def _counted(self, step: Step[Member], work: UnitOfWork) -> Step[Member]:
        if step.events:
            work.after_commit(self._changed.inc)
        return step


def _at(terms: Sequence[Term], role: str, unit: str) -> Term | None:
    return next((term for term in terms if (term.role, term.unit) == (role, unit)), None)
