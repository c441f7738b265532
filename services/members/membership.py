"""Changing members: each change is guarded by the version it is based on, and is one transaction with its event."""

from __future__ import annotations

from typing import Final

from bson.binary import Binary
from pymongo.errors import DuplicateKeyError

from services.members import domain
from services.members.contacts import Contacts
from services.members.directory import Directory
from services.members.domain import Changes, Contact, HasLeft, Member, is_plausible_birth_year
from services.members.metrics import MembersMetrics
from services.members.refusals import (
    busy,
    implausible_birth_year,
    member_has_left,
    phone_already_registered,
    unit_not_found,
)
from services.members.store import MemberStore, Record
from services.shared.clock import Clock
from services.shared.http.auth import Identity
from services.shared.http.etag import precondition_failed
from services.shared.messaging import Origin, Outbox, UnitOfWork

_TRIES: Final = 5


class Membership:
    def __init__(
        self,
        outbox: Outbox,
        store: MemberStore,
        directory: Directory,
        contacts: Contacts,
        clock: Clock,
        metrics: MembersMetrics,
    ) -> None:
        self._outbox = outbox
        self._store = store
        self._directory = directory
        self._contacts = contacts
        self._clock = clock
        self._metrics = metrics

    async def update(
        self, caller: Identity, member_id: str, version: int, changes: Changes, origin: Origin
    ) -> Record:
        """The member after `changes`, which were based on `version`; unchanged when they change nothing.

        Raises: `Problem` 404, 409 (has left; phone taken), 412 (stale version), 422 (birth year).
        """
        now = self._clock.now()
        if changes.birth_year is not None and not is_plausible_birth_year(changes.birth_year, now):
            raise implausible_birth_year()
        record = await self._find(caller, member_id, version)
        [contact] = await self._contacts.open([record])
        try:
            changed = domain.update(record.member, contact, changes, now)
        except HasLeft:
            raise member_has_left() from None
        if changed is None:
            return record
        member, new_contact, event = changed
        sealed = record.contact
        if new_contact != contact:
            [sealed] = await self._contacts.seal([(member_id, new_contact)])
        try:
            saved = await self._save(member, event, origin, sealed, self._contacts.phone_index(new_contact))
        except DuplicateKeyError:
            raise await self._phone_taken(caller, new_contact) from None
        if not saved:
            raise precondition_failed()
        self._metrics.changes.labels("updated").inc()
        return Record(member, sealed)

    async def move(
        self, caller: Identity, member_id: str, version: int | None, unit: str, origin: Origin
    ) -> Record:
        """The member in `unit`, which must be in the caller's subtree as the old one must.

        Raises: `Problem` 404, 409 (has left), 412 (stale version).
        """
        if not caller.can_access(unit):
            raise unit_not_found()
        for _ in range(_TRIES):
            record = await self._find(caller, member_id, version)
            try:
                moved = domain.move(record.member, unit, self._clock.now())
            except HasLeft:
                raise member_has_left() from None
            if moved is None:
                return record
            if await self._save(*moved, origin):
                self._metrics.changes.labels("moved").inc()
                return Record(moved[0], record.contact)
        raise busy()

    async def leave(self, caller: Identity, member_id: str, origin: Origin) -> None:
        """The phone is free again; the contact stays, sealed, until it is erased. Leaving twice is leaving.

        Raises: `Problem` 404.
        """
        for _ in range(_TRIES):
            record = await self._find(caller, member_id)
            left = domain.leave(record.member, self._clock.now())
            if left is None:
                return
            if await self._save(*left, origin):
                self._metrics.changes.labels("left").inc()
                return
        raise busy()

    async def _find(self, caller: Identity, member_id: str, version: int | None = None) -> Record:
        record = await self._directory.find(caller, member_id)
        if version is not None and record.member.version != version:
            raise precondition_failed()
        return record

    async def _save(
        self,
        member: Member,
        event: domain.Event,
        origin: Origin,
        contact: Binary | None = None,
        phone_index: str | None = None,
    ) -> bool:
        """False when another change came first."""

        async def write(work: UnitOfWork) -> bool:
            if not await self._store.save(member, work.session, contact=contact, phone_index=phone_index):
                return False
            work.stage(event, member.version, origin)
            return True

        return await self._outbox.transact(write)

    async def _phone_taken(self, caller: Identity, contact: Contact) -> Exception:
        index = self._contacts.phone_index(contact)
        holder = (await self._store.active_by_phone([index])).get(index)
        if holder is None:  # they left between our write and this look
            return busy()
        member_id, unit = holder
        visible = caller.has_scope("members:read") and caller.can_access(unit)
        return phone_already_registered(member_id if visible else None)
