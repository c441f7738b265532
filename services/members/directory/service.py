"""Finding members within the caller's subtree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from services.members.core.domain import Contact, Member
from services.members.core.reading import MemberReader, Shown
from services.members.core.store import Record
from services.members.directory.store import DirectoryStore, Search
from services.shared.identity import Identity


class Directory:
    def __init__(self, store: DirectoryStore, reader: MemberReader) -> None:
        self._store = store
        self._reader = reader

    async def get(self, caller: Identity, member_id: str) -> Shown:
        """Raises: `NotFoundError`."""
        [shown] = await self._reader.show(caller, [await self._reader.find(caller, member_id)], "get")
        return shown

    async def page(self, caller: Identity, search: Search, after: str | None, limit: int) -> list[Record]:
        """At most `limit` members after the id `after`.

        Raises: `NotFoundError` for a unit outside the caller's subtree.
        """
        return await self._store.page(replace(search, root=caller.accessible_root(search.root)), after, limit)

    async def show_page(self, caller: Identity, page: Sequence[Record]) -> list[Shown]:
        return await self._reader.show(caller, page, "list")

    async def resolve(
        self, caller: Identity, ids: Sequence[str]
    ) -> tuple[list[tuple[Member, Contact]], list[str]]:
        """The members with their contacts, once each in the order of `ids`; and the ids not found.

        A member whose contact cannot be opened counts as not found, so that the others can be written to.
        """
        found = {
            record.member.id: record
            for record in await self._store.find_many(ids)
            if caller.can_access(record.member.unit)
        }
        asked = list(dict.fromkeys(ids))
        records = [found[each] for each in asked if each in found]
        contacts = await self._reader.open_each(caller, records, "resolve")
        pairs = [(found[each].member, contacts[each]) for each in asked if each in contacts]
        return pairs, [each for each in asked if each not in contacts]
