"""Reading members within the caller's subtree; whoever is shown a contact leaves a record of it."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from services.members.core.contacts import Contacts
from services.members.core.domain import Contact, Member
from services.members.core.metrics import MembersMetrics
from services.members.core.store import MemberStore, Record
from services.shared.clock import Clock
from services.shared.errors import NotFoundError
from services.shared.faults import may_pass
from services.shared.identity import Identity
from services.shared.ids import new_id
from services.shared.messaging import bisect
from services.shared.observability.correlation import current_context

log = structlog.get_logger(__name__)

CONTACTS_SCOPE: Final = "contacts:read"


@dataclass(frozen=True, slots=True)
class Shown:
    """A member as a caller may see it: `contact` is None without `contacts:read`, and when it was destroyed
    because the member left long ago."""

    member: Member
    contact: Contact | None


class MemberReader:
    def __init__(self, store: MemberStore, contacts: Contacts, clock: Clock, metrics: MembersMetrics) -> None:
        self._store = store
        self._contacts = contacts
        self._clock = clock
        self._metrics = metrics

    async def find(self, caller: Identity, member_id: str) -> Record:
        """Raises: `NotFoundError`, also for a member outside the caller's subtree."""
        record = await self._store.find(member_id)
        if record is None:
            raise NotFoundError
        caller.check_access(record.member.unit)
        return record

    async def person(self, caller: Identity, member_id: str) -> list[Record]:
        """All records of the member's person: first of the one who stands for them, then of those who were
        merged into that one. Where the first one is decides who may see them all.

        Raises: `NotFoundError`.
        """
        records = await self._store.person(member_id)
        if not records:
            raise NotFoundError
        caller.check_access(records[0].member.unit)
        return records

    async def show(self, caller: Identity, records: Sequence[Record], via: str) -> list[Shown]:
        """The members, with contacts for a caller who may read them; `via` goes into the record of that. An
        inviter who was merged is shown as the member who stands for them, and so is the member who reaches
        another; as nobody, once that one has left or was erased."""
        contacts: Sequence[Contact | None] = [None] * len(records)
        if caller.has_scope(CONTACTS_SCOPE):
            opened = await self.open_contacts(caller, records, via)
            contacts = [
                contact if contact.phone or not record.member.own_number else None
                for record, contact in zip(records, opened, strict=True)
            ]
        members = await self._related([record.member for record in records])
        return [Shown(member, contact) for member, contact in zip(members, contacts, strict=True)]

    async def _related(self, members: Sequence[Member]) -> list[Member]:
        """The members with the ids of those who stand for their inviters and for whoever reaches them."""
        inviters = {member.inviter_id for member in members if member.inviter_id is not None}
        reaching = {member.reached_by for member in members if member.reached_by is not None}
        if not (named := inviters | reaching):
            return list(members)
        survivors = await self._store.survivors(named)
        able = await self._store.with_number({survivors.get(each, each) for each in reaching})
        return [
            replace(
                member,
                inviter_id=_standing(member.inviter_id, survivors),
                reached_by=_through(_standing(member.reached_by, survivors), able),
            )
            for member in members
        ]

    async def open_contacts(self, caller: Identity, records: Sequence[Record], via: str) -> list[Contact]:
        """The contacts in order, for a caller with `contacts:read`; records who read them first."""
        if not records:
            return []
        await self._record_opened(caller, records, via)
        return await self._contacts.open(records)

    async def open_each(self, caller: Identity, records: Sequence[Record], via: str) -> dict[str, Contact]:
        """As `open_contacts`, by member id; whoever's contact cannot be opened is missing, and logged."""
        if not records:
            return {}
        await self._record_opened(caller, records, via)
        opened: dict[str, Contact] = {}

        async def open_(part: Sequence[Record]) -> None:
            contacts = await self._contacts.open(part)
            opened.update((r.member.id, c) for r, c in zip(part, contacts, strict=True))

        async def skip(record: Record, error: Exception) -> None:
            log.error("contact.unreadable", member=record.member.id, error=type(error).__name__)

        await bisect(records, open_, skip, splits=lambda error: not may_pass(error))
        return opened

    async def _record_opened(self, caller: Identity, records: Sequence[Record], via: str) -> None:
        # Before the contacts are opened: a read that cannot be recorded does not happen.
        await self.record(caller, [record.member.id for record in records], via)
        self._metrics.contacts_shown.labels(via).inc(len(records))

    async def record(
        self, caller: Identity, member_ids: Sequence[str], via: str, about: tuple[str, str] | None = None
    ) -> None:
        """Record that `caller` learns something of the contacts of these members, and by what request.

        `about` is `(name, unit)` of what is read, such as an import, where that is not members alone.
        """
        context = current_context()
        named = {"about": about[0], "unit": about[1]} if about else {}
        await self._store.record_read(
            {
                **named,
                "_id": new_id(),
                "subject": caller.subject,
                "ids": list(member_ids),
                "via": via,
                "at": self._clock.now(),
                "request_id": context.request_id if context else "",
            }
        )


def _standing(member_id: str | None, survivors: Mapping[str, str]) -> str | None:
    """The member who stands for this one, if they were merged."""
    return survivors.get(member_id, member_id) if member_id is not None else None


def _through(member_id: str | None, able: Container[str]) -> str | None:
    """Empty in the place of a member who has no number now: having none is not having one's own."""
    return member_id if member_id is None or member_id in able else ""
