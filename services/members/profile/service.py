"""Changing members: a change is guarded by the version it is based on, in one transaction with its event."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final, ParamSpec, TypeVar

from services.members.core import changing
from services.members.core.changing import Changes, HasLeftError, HasNumberError, IsMergedError, Profile
from services.members.core.core import Core
from services.members.core.domain import (
    Contact,
    Member,
    Status,
    has_guardian,
    is_plausible_birth_year,
    may_be_minor,
)
from services.members.core.errors import (
    changed_meanwhile,
    has_own_number,
    implausible_birth_year,
    is_minor,
    member_has_left,
    member_is_merged,
    unit_not_found,
    unreachable,
)
from services.members.core.reading import CONTACTS_SCOPE
from services.members.core.store import DuplicateError, Record, SealedContact
from services.shared.contracts.base import Numbered, Step
from services.shared.errors import ConflictError, StaleVersionError
from services.shared.identity import Identity
from services.shared.messaging import Origin, UnitOfWork

P = ParamSpec("P")
State = TypeVar("State")
_TRIES: Final = 5


class Profiles:
    def __init__(self, core: Core) -> None:
        self._outbox = core.runtime.outbox
        self._clock = core.runtime.clock
        self._units = core.units
        self._store = core.store
        self._terms = core.terms
        self._reader = core.reader
        self._contacts = core.contacts
        self._taken_phones = core.taken_phones
        self._metrics = core.metrics
        self._minors_allowed = core.minors_allowed

    async def update(
        self, caller: Identity, member_id: str, version: int, changes: Changes, origin: Origin
    ) -> Record:
        """The member after `changes`, which were based on `version`; unchanged when they change nothing that
        the caller sees.

        Raises, in this order: `NotFoundError`, `StaleVersionError`, `TooManyError` (taken phones),
        `InvalidError` (birth year, reached by), `ConflictError` (has left; has a number; phone taken).
        """
        record = await self._find(caller, member_id, version)
        if changes.phone:
            self._taken_phones.check_may_ask(caller)
        now = self._clock.now()
        self._check_age(changes.birth_year, record.member, now)
        if changes.reached_by:
            await self._check_reaches(caller, changes.reached_by)
        [contact] = await self._contacts.open([record])
        sees_contact = caller.has_scope(CONTACTS_SCOPE)
        profile = Profile(record.member, contact)
        new, events = _decide(changing.update, profile, changes, now, sees_contact=sees_contact)
        if not events:
            return record
        sealed = None
        if changes.name_contact:
            [sealed] = await self._contacts.seal([(member_id, new.contact)])
        try:
            saved = await self._save(new.member, events, origin, sealed)
        except DuplicateError:
            raise await self._phone_taken(caller, new.contact) from None
        if not saved:
            raise StaleVersionError
        self._metrics.changes.labels("updated").inc()
        return Record(new.member, sealed.ciphertext if sealed else record.contact)

    async def move(
        self, caller: Identity, member_id: str, version: int | None, unit: str, origin: Origin
    ) -> Record:
        """The member in `unit`. Both units must be in the caller's subtree.

        Raises: `InvalidError` (unit was split), `NotFoundError`, `ConflictError` (has left),
            `StaleVersionError`.
        """
        unit = self._units.check(unit)
        if not caller.can_access(unit):
            raise unit_not_found()
        return await self._change(
            caller,
            member_id,
            version,
            lambda member: changing.move(member, unit, self._clock.now()),
            origin,
            "moved",
        )

    async def leave(self, caller: Identity, member_id: str, version: int | None, origin: Origin) -> None:
        """Free the phone, and end the roles; the contact stays, sealed, until it is destroyed. Leaving twice
        changes nothing.

        Raises: `NotFoundError`, `StaleVersionError`, `ConflictError` (is merged).
        """
        await self._change(
            caller,
            member_id,
            version,
            lambda member: changing.leave(member, self._clock.now()),
            origin,
            "left",
        )

    def _check_age(self, birth_year: int | None, member: Member, now: datetime) -> None:
        """Raises: `InvalidError` for a new year of birth that nobody has, or that makes the member a minor
        without a guardian."""
        if birth_year is None or birth_year == member.birth_year:
            return
        if not is_plausible_birth_year(birth_year, now):
            raise implausible_birth_year()
        if may_be_minor(birth_year, now) and not (self._minors_allowed and has_guardian(member)):
            raise is_minor()

    async def _change(
        self,
        caller: Identity,
        member_id: str,
        version: int | None,
        rule: Callable[[Member], Step[Member]],
        origin: Origin,
        counted_as: str,
    ) -> Record:
        """The member after `rule`, which is applied again when another change came first."""
        for _ in range(_TRIES):
            record = await self._find(caller, member_id, version)
            member, events = _decide(rule, record.member)
            if not events:
                return record
            if await self._save(member, events, origin, actor=caller.subject):
                self._metrics.changes.labels(counted_as).inc()
                return Record(member, record.contact)
        raise changed_meanwhile()

    async def _find(self, caller: Identity, member_id: str, version: int | None) -> Record:
        record = await self._reader.find(caller, member_id)
        if version is not None and record.member.version != version:
            raise StaleVersionError
        return record

    async def _save(
        self,
        member: Member,
        events: Iterable[Numbered],
        origin: Origin,
        contact: SealedContact | None = None,
        actor: str | None = None,
    ) -> bool:
        """False when another change came first."""

        async def write(work: UnitOfWork) -> bool:
            if not await self._store.save(member, work.session, contact):
                return False
            if member.status == Status.LEFT:
                await self._terms.end(member.id, member.updated_at, work.session, actor)
            work.stage_all(events, origin)
            return True

        return await self._outbox.transact(write)

    async def _check_reaches(self, caller: Identity, member_id: str) -> None:
        """Raises: `InvalidError` unless the member is one of the caller's, and has a number."""
        unit = (await self._store.with_number([member_id])).get(member_id)
        if unit is None or not caller.can_access(unit):
            raise unreachable()

    async def _phone_taken(self, caller: Identity, contact: Contact) -> ConflictError:
        index = self._contacts.phone_index(contact)
        holder = (await self._store.active_by_phone([index])).get(index)
        # The holder may have left between our write and this look.
        if holder is None:
            return changed_meanwhile()
        return await self._taken_phones.refuse(caller, *holder, "phone_of_change")


def _decide(rule: Callable[P, Step[State]], *args: P.args, **kwargs: P.kwargs) -> Step[State]:
    """Raises: `ConflictError` when the member has left, is merged, or has a number already."""
    try:
        return rule(*args, **kwargs)
    except IsMergedError:
        raise member_is_merged() from None
    except HasLeftError:
        raise member_has_left() from None
    except HasNumberError:
        raise has_own_number() from None
