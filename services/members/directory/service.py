"""Finding members within the caller's subtree."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import Final

from services.members.core.domain import Contact, Member
from services.members.core.reading import MemberReader, Shown
from services.members.core.store import Record
from services.members.directory.freshness import Freshness
from services.members.directory.store import Candidate, DirectoryStore, Search
from services.shared.identity import Identity
from services.shared.names import begins, likeness

SIMILAR: Final = 50
"""At most this many members are added to a list because their names sound like what was asked for."""
ALIKE: Final = 0.6
"""The least `likeness` of a name that is answered."""
EXPORTED: Final = 500
"""Members per batch of an export."""


class Directory:
    def __init__(self, store: DirectoryStore, reader: MemberReader, freshness: Freshness) -> None:
        self._store = store
        self._reader = reader
        self._freshness = freshness

    async def get(self, caller: Identity, member_id: str) -> Shown:
        """Raises: `NotFoundError`."""
        [shown] = await self._reader.show(caller, [await self._reader.find(caller, member_id)], "get")
        return shown

    def within(self, caller: Identity, search: Search) -> Search:
        """The search, narrowed to the caller's subtree.

        Raises: `NotFoundError` for a unit outside it.
        """
        return replace(search, root=caller.accessible_root(search.root))

    async def page(self, search: Search, after: str | None, limit: int) -> list[Record]:
        """At most `limit` members after the id `after`, by id."""
        return await self._store.page(search, after, limit, by_index=self._freshness.complete)

    async def count(self, search: Search) -> int:
        """How many members match; one more than `COUNTED` for any larger number."""
        return await self._store.count(search, by_index=self._freshness.complete)

    async def similar(self, search: Search) -> list[Record]:
        """At most `SIMILAR` members whose names sound like the words of the search and do not begin with
        them, best first."""
        asked = search.words
        others = [each for each in await self._by_sound(search) if not begins(asked, each.words)]
        return await self._records(_ranked(asked, others), SIMILAR)

    async def best(self, search: Search, limit: int) -> list[Record]:
        """Members whose names answer the words of the search best: begin with them, or sound like them."""
        by_prefix = self._store.by_prefix(search, by_index=self._freshness.complete)
        found = await asyncio.gather(by_prefix, self._by_sound(search))
        candidates = {each.id: each for way in found for each in way}
        return await self._records(_ranked(search.words, candidates.values()), limit)

    async def show_page(self, caller: Identity, page: Sequence[Record]) -> list[Shown]:
        return await self._reader.show(caller, page, "list")

    async def export(
        self, caller: Identity, search: Search
    ) -> AsyncIterator[list[tuple[Member, Contact | None]]]:
        """All members that match with their contacts, in batches, by id; a contact that cannot be opened is
        None. Each batch is recorded as read before it is opened; nothing is held between two batches.
        """
        after: str | None = None
        while records := await self.page(search, after, EXPORTED):
            contacts = await self._reader.open_each(caller, records, "export")
            yield [(record.member, contacts.get(record.member.id)) for record in records]
            after = records[-1].member.id

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

    async def _by_sound(self, search: Search) -> list[Candidate]:
        return await self._store.by_sound(search, by_index=self._freshness.complete)

    async def _records(self, ids: Sequence[str], limit: int) -> list[Record]:
        """The members with the first `limit` of `ids`, in that order."""
        found = {record.member.id: record for record in await self._store.find_many(ids[:limit])}
        return [found[each] for each in ids if each in found]


def _ranked(asked: Sequence[str], candidates: Iterable[Candidate]) -> list[str]:
    """The ids of candidates who are alike, the best first, and of equals the one registered first."""
    # Most who have a common name have the very same one, in one spelling: each is compared once.
    scores: dict[tuple[str, ...], float] = {}
    scored = []
    for each in candidates:
        name = tuple(each.words)
        if (score := scores.get(name)) is None:
            score = scores[name] = likeness(asked, name)
        if score >= ALIKE:
            scored.append((-score, each.id))
    return [id_ for _, id_ in sorted(scored)]
