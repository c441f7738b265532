"""The queries that find many members, and the indexes that they use.

Pages are in the order of ids. Their indexes end with the id, and begin with the unit whose subtree is asked
for or with what few of its members have: so a page costs the same in a small directory and a large one. The
indexed fields (`search_fields`) say where to look; the filters themselves are on the member's own fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from typing import Any, Final, NamedTuple

from pymongo import IndexModel, UpdateOne

from services.members.core.search_fields import (
    COMMON,
    MANY_WORDS,
    RULES,
    facet,
    is_lowest,
    search_fields,
    sound_pair,
    spelt_pair,
)
from services.members.core.store import MEMBER, Record, record_of
from services.shared.contracts.vocabulary import subtree
from services.shared.database import Collection, Database, Document, Migration
from services.shared.identity import ALL_UNITS
from services.shared.names import latin, sound_key

COUNTED: Final = 10_000
"""Members are counted exactly up to this many."""
CANDIDATES: Final = 200
"""Members that each way of looking for a name may find; the best of all of them are answered."""
_SHORTEST: Final = 3
_MOST_WORDS: Final = 8
_EXPECTED: Final = {"$concat": [f"{RULES}:", {"$toString": "$version"}]}
"""`searchable` of a member whose search fields are those of its version."""
_HIGHEST: Final = "\U0010ffff"
_Keys = list[tuple[str, int]]
_BY_ID: Final[_Keys] = [("_id", 1)]
_BY_UNIT: Final[_Keys] = [("units", 1), ("_id", 1)]
_BY_FACET: Final[_Keys] = [("facets", 1), ("_id", 1)]
_BY_CHANGE: Final[_Keys] = [("updated_at", 1)]
_BY_WORD: Final[_Keys] = [("words", 1), ("unit", 1)]
_BY_KEY: Final[_Keys] = [("keys", 1), ("unit", 1)]


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


class Candidate(NamedTuple):
    id: str
    words: Sequence[str]


class DirectoryStore:
    def __init__(self, database: Database) -> None:
        self._members: Collection = database["members"]

    async def find_many(self, ids: Sequence[str]) -> list[Record]:
        return [record_of(row) async for row in self._members.find({"_id": {"$in": list(ids)}})]

    async def page(self, search: Search, after: str | None, limit: int, *, by_index: bool) -> list[Record]:
        """At most `limit` members after the id `after`, by id: the one order that no write disturbs.

        `by_index`: all members have their `search_fields`, so the one index that `access_path` names is used.
        """
        query, options = _guided(search, by_index=by_index)
        if after is not None:
            query["_id"] = {"$gt": after}
        rows = self._members.find(query, **options).sort("_id", 1).limit(limit)
        return [record_of(row) for row in await rows.to_list(limit)]

    async def count(self, search: Search, *, by_index: bool) -> int:
        """How many members match, `COUNTED + 1` for more."""
        query, options = _guided(search, by_index=by_index)
        return await self._members.count_documents(query, limit=COUNTED + 1, **options)

    async def by_prefix(self, search: Search, *, by_index: bool) -> list[Candidate]:
        """Members with a word that begins with each word of the search: of one word whole ones first."""
        pair = pair_of(search.words, spelt_pair) if by_index else {}
        return await self._candidates(_query(search) | pair, _BY_KEY if pair else _BY_WORD)

    async def by_sound(self, search: Search, *, by_index: bool) -> list[Candidate]:
        """Members whose words sound like those of the search, or begin so, in whatever script. A word of one
        or two letters is the beginning of too many: beside a longer word it is taken whole, and alone it
        finds nobody. No name has very many words: nobody is found by those."""
        short = all(len(latin(word)) < _SHORTEST for word in search.words)
        if short or len(search.words) > _MOST_WORDS:
            return []
        keys = [sound_key(word) for word in search.words]
        others = _filters(search) | (pair_of(search.words, sound_pair) if by_index else {})
        found = await self._candidates(others | _all("keys", keys), _BY_KEY)
        if len(found) == CANDIDATES or all(len(key) < _SHORTEST for key in keys):
            return found
        begins = [key if len(key) < _SHORTEST else _beginning(key) for key in keys]
        begun = await self._candidates(others | _all("keys", begins), _BY_KEY)
        return list({each.id: each for each in (*found, *begun)}.values())

    async def _candidates(self, query: Document, index: _Keys) -> list[Candidate]:
        rows = self._members.find(query, {"words": 1}).hint(index).limit(CANDIDATES)
        return [Candidate(row["_id"], row["words"]) for row in await rows.to_list(CANDIDATES)]

    async def stale(self, after: str, since: datetime | None, limit: int) -> tuple[int, str | None]:
        """Derive the `search_fields` of at most `limit` members anew who have none, or those of an earlier
        version; answers how many, and the last one's id (None for none).

        Members are taken by id from `after`; with `since`, only those changed since then.
        """
        query: Document = {"_id": {"$gt": after}, "$expr": {"$ne": ["$searchable", _EXPECTED]}}
        if since is not None:
            query["updated_at"] = {"$gte": since}
        index = _BY_ID if since is None else _BY_CHANGE
        rows = await self._members.find(query).hint(index).sort("_id", 1).limit(limit).to_list(limit)
        if not rows:
            return 0, None
        # A change of the member meanwhile has either derived them itself, or is found by the next look.
        writes = [
            UpdateOne(
                {"_id": row["_id"], "version": row["version"]}, {"$set": search_fields(MEMBER.decode(row))}
            )
            for row in rows
        ]
        await self._members.bulk_write(writes, ordered=False)
        return len(rows), rows[-1]["_id"]


def access_path(search: Search) -> tuple[Document, _Keys | None]:
    """Where to look for the members of a search without words: a condition on what their index begins with,
    and that index, None to let MongoDB choose. A facet is looked up, of several the one that is likely the
    rarest."""
    for field in ("role", "platform", "status", "language", "gender"):
        value = getattr(search, field)
        if value is not None and (field, value) not in COMMON:
            return {"facets": facet(search.root or ALL_UNITS, field, value)}, _BY_FACET
    if search.root is None:
        return {}, _BY_ID
    if is_lowest(search.root):
        # Two indexes, each in the order of ids: MongoDB merges them.
        return {"$or": [{"unit": search.root}, {"units": search.root}]}, None
    return {"units": search.root}, _BY_UNIT


def _guided(search: Search, *, by_index: bool) -> tuple[Document, dict[str, Any]]:
    """The query and its options. Whether fewer members have the name or the facet is left to MongoDB's
    planner."""
    if not by_index:
        return _query(search), {}
    place, index = access_path(search)
    if search.words:
        facets = place if index is _BY_FACET else {}
        return _query(search) | facets | pair_of(search.words, spelt_pair), {}
    if index is None:  # the place alone says where, so that no other index is considered
        return _exact(search) | place, {}
    return _query(search) | place, {"hint": index}


def _query(search: Search) -> Document:
    return _filters(search) | _all("words", [_beginning(start) for start in search.words])


def _filters(search: Search) -> Document:
    """All of a search but its words."""
    query: Document = {"unit": subtree(search.root)} if search.root else {}
    return query | _exact(search)


def _exact(search: Search) -> Document:
    """The filters of a search but the unit."""
    exact: dict[str, Any] = {
        "roles.role": search.role,
        "gender": search.gender,
        "language": search.language,
        "platforms": search.platform,
        "status": search.status,
    }
    return {name: value for name, value in exact.items() if value is not None}


def pair_of(words: Sequence[str], pair: Callable[[str, str], str | None]) -> Document:
    """A condition that two of the words give, on one index entry; empty if no two of them do."""
    found = (made for one, other in combinations(words, 2) if (made := pair(one, other)))
    one = next(found, None)
    return {"keys": {"$in": [one, MANY_WORDS]}} if one else {}


def _all(field: str, conditions: Iterable[object]) -> Document:
    """Every condition holds for some element of an array; no condition, all documents."""
    every = [{field: condition} for condition in conditions]
    return {"$and": every} if every else {}


def _beginning(start: str) -> Document:
    # $elemMatch, or one element could satisfy the lower bound and another the upper one.
    return {"$elemMatch": {"$gte": start, "$lt": start + _HIGHEST}}


async def _index(database: Database) -> None:
    await database["members"].create_indexes([IndexModel(keys) for keys in INDEXES])


INDEXES: Final = (_BY_UNIT, _BY_FACET, _BY_KEY, _BY_CHANGE)
MIGRATIONS: Final = (Migration("directory-0001", "indexes of the directory", _index),)
