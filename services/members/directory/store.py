"""The queries that find many members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.members.core.store import Record, record_of
from services.shared.contracts.vocabulary import subtree
from services.shared.database import Collection, Database, Document

_HIGHEST: Final = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Search:
    """Filters of a list. `root` is the unit whose subtree contains the members, None all units."""

    root: str | None = None
    role: str | None = None
    gender: str | None = None
    language: str | None = None
    platform: str | None = None
    status: str | None = None
    words: tuple[str, ...] = ()
    """Beginnings of words of the name, all of which must match."""


class DirectoryStore:
    def __init__(self, database: Database) -> None:
        self._members: Collection = database["members"]

    async def find_many(self, ids: Sequence[str]) -> list[Record]:
        return [record_of(row) async for row in self._members.find({"_id": {"$in": list(ids)}})]

    async def page(self, search: Search, after: str | None, limit: int) -> list[Record]:
        """At most `limit` members after the id `after`, by id: the one order that no write disturbs."""
        query = _query(search)
        if after is not None:
            query["_id"] = {"$gt": after}
        rows = self._members.find(query).sort("_id", 1).limit(limit)
        return [record_of(row) for row in await rows.to_list(limit)]


def _query(search: Search) -> Document:
    query: Document = {"unit": subtree(search.root)} if search.root else {}
    # $elemMatch, or one word could satisfy the lower bound and another the upper one.
    conditions = [
        {"words": {"$elemMatch": {"$gte": start, "$lt": start + _HIGHEST}}} for start in search.words
    ]
    if conditions:
        query["$and"] = conditions
    exact: dict[str, Any] = {
        "roles.role": search.role,
        "gender": search.gender,
        "language": search.language,
        "platforms": search.platform,
        "status": search.status,
    }
    query.update({name: value for name, value in exact.items() if value is not None})
    return query
