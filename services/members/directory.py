"""Reading members: within the caller's subtree, and whoever sees a contact leaves a record of having seen it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.members.contacts import Contacts
from services.members.domain import Contact, Member
from services.members.metrics import MembersMetrics
from services.members.store import MemberStore, Record, Search
from services.shared.clock import Clock
from services.shared.http.auth import Identity
from services.shared.http.problem import not_found
from services.shared.ids import new_id
from services.shared.observability.correlation import current_context

CONTACTS_SCOPE = "contacts:read"


@dataclass(frozen=True, slots=True)
class Shown:
    """A member as a caller may see it: `contact` is None without `contacts:read`."""

    member: Member
    contact: Contact | None


class Directory:
    def __init__(self, store: MemberStore, contacts: Contacts, clock: Clock, metrics: MembersMetrics) -> None:
        self._store = store
        self._contacts = contacts
        self._clock = clock
        self._metrics = metrics

    async def find(self, caller: Identity, member_id: str) -> Record:
        """Raises: `Problem` 404, also for a member outside the caller's subtree."""
        record = await self._store.find(member_id)
        if record is None:
            raise not_found()
        caller.check_access(record.member.unit)
        return record

    async def get(self, caller: Identity, member_id: str) -> Shown:
        """Raises: `Problem` 404."""
        [shown] = await self.show(caller, [await self.find(caller, member_id)], "get")
        return shown

    async def page(self, caller: Identity, search: Search, after: str | None, limit: int) -> list[Record]:
        """At most `limit` members after the id `after`.

        Raises: `Problem` 404 for a unit outside the caller's subtree.
        """
        return await self._store.page(replace(search, root=caller.visible_root(search.root)), after, limit)

    async def resolve(
        self, caller: Identity, ids: Sequence[str]
    ) -> tuple[list[tuple[Member, Contact]], list[str]]:
        """The contacts of those members, in the order asked and once each, and the ids of which there are none."""
        found = {
            record.member.id: record
            for record in await self._store.find_many(ids)
            if caller.can_access(record.member.unit)
        }
        asked = list(dict.fromkeys(ids))
        records = [found[each] for each in asked if each in found]
        contacts = await self._open(caller, records, "resolve")
        pairs = [(record.member, contact) for record, contact in zip(records, contacts, strict=True)]
        return pairs, [each for each in asked if each not in found]

    async def show(self, caller: Identity, records: Sequence[Record], via: str) -> list[Shown]:
        """With contacts for a caller who may read them. `via` is a word for the record of the read."""
        if not caller.has_scope(CONTACTS_SCOPE):
            return [Shown(record.member, None) for record in records]
        contacts = await self._open(caller, records, via)
        return [Shown(record.member, contact) for record, contact in zip(records, contacts, strict=True)]

    async def _open(self, caller: Identity, records: Sequence[Record], via: str) -> list[Contact]:
        if not records:
            return []
        context = current_context()
        # Before the contacts are opened: a read that cannot be recorded does not happen.
        await self._store.record_read(
            {
                "_id": new_id(),
                "subject": caller.subject,
                "ids": [record.member.id for record in records],
                "via": via,
                "at": self._clock.now(),
                "request_id": context.request_id if context else "",
            }
        )
        self._metrics.contacts_shown.labels(via).inc(len(records))
        return await self._contacts.open(records)
