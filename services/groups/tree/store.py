"""Queries of the tree.

`tree {_id: "tree", version, levels, levels_version, redrawing?, redrawing_job?}`: one document. `version`
counts the changes of the tree, `redrawing` is the comparison that is being applied.
"""

from __future__ import annotations

from collections.abc import Collection as Many
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pymongo import ASCENDING, IndexModel, UpdateOne

from services.groups.core.domain import Group, Unit
from services.groups.core.levels import SHIPPED, TREE
from services.groups.core.store import GROUPS, RULES, SOUND, UNITS, unit_search_fields
from services.shared.contracts.vocabulary import subtree
from services.shared.database import Codec, Collection, Database, Document, Migration, Session, create
from services.shared.names import latin, sound_key

_HIGHEST: Final = "\U0010ffff"
_SHORTEST: Final = 3
_EXPECTED: Final = {"$concat": [f"{RULES}:", {"$toString": "$version"}]}
"""`searchable` of a unit whose terms are those of its version."""
LOOKUP_CODES: Final = 10_000
"""Codes of one query, whose document may have 16 MB."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The tree as a whole."""

    version: int = 0
    levels: Sequence[str] = SHIPPED
    levels_version: int = 1
    redrawing: str | None = None
    redrawing_job: str | None = None


@dataclass(frozen=True, slots=True)
class Filters:
    """`words`: beginnings of words of a name, or words that sound like them, all of which must match."""

    words: tuple[str, ...] = ()
    level: str | None = None
    constituency: int | None = None
    retired: bool = False


_CODEC: Final = Codec(Tree, omit_none=["redrawing", "redrawing_job"])


class TreeStore:
    def __init__(self, database: Database) -> None:
        self._units: Collection = database["units"]
        self._groups: Collection = database["groups"]
        self._tree: Collection = database["tree"]

    async def tree(self, session: Session | None = None) -> Tree:
        row = await self._tree.find_one({"_id": TREE}, session=session)
        return _CODEC.decode(row) if row else Tree()

    async def touch(self, session: Session) -> Tree:
        """The tree, one version on."""
        return await self.change({"$inc": {"version": 1}}, session)

    async def change(self, update: Document, session: Session) -> Tree:
        changed = {name for fields in update.values() for name in fields}
        fresh = {name: value for name, value in _CODEC.encode(Tree()).items() if name not in changed}
        row = await self._tree.find_one_and_update(
            {"_id": TREE},
            {**update, "$setOnInsert": fresh},
            upsert=True,
            return_document=True,
            session=session,
        )
        return _CODEC.decode(row)

    async def set_levels(self, levels: Sequence[str], session: Session) -> Tree:
        return await self.change({"$set": {"levels": list(levels)}, "$inc": {"levels_version": 1}}, session)

    async def children(self, parent: str, after: str | None, limit: int) -> list[Unit]:
        """The live units directly below, in the order of their codes."""
        query: Document = {"parent": parent, "successors": None}
        if after is not None:
            query["_id"] = {"$gt": after}
        rows = self._units.find(query).sort("_id", ASCENDING).limit(limit)
        return [UNITS.decode(row) async for row in rows]

    async def find(self, root: str | None, filters: Filters, after: str | None, limit: int) -> list[Unit]:
        rows = self._units.find(query_of(root, filters, after)).sort("_id", ASCENDING).limit(limit)
        return [UNITS.decode(row) async for row in rows]

    async def retired(self, codes: Sequence[str]) -> set[str]:
        """The codes among these that are retired units'."""
        found: set[str] = set()
        for start in range(0, len(codes), LOOKUP_CODES):
            some = codes[start : start + LOOKUP_CODES]
            rows = self._units.find({"_id": {"$in": some}, "successors": {"$exists": True}}, {"_id": 1})
            found |= {row["_id"] async for row in rows}
        return found

    async def groups_of(self, units: Many[str], session: Session) -> list[Group]:
        """All groups of these units themselves, in no order."""
        rows = self._groups.find({"unit": {"$in": list(units)}}, session=session)
        return [GROUPS.decode(row) async for row in rows]

    async def derive_terms(self, after: str, limit: int) -> tuple[int, str | None]:
        """Derive the terms of units that have none, or those of an earlier version, anew: how many of at most
        `limit` after the code `after`, and the last code (None for none)."""
        query: Document = {"_id": {"$gt": after}, "$expr": {"$ne": ["$searchable", _EXPECTED]}}
        rows = await self._units.find(query).sort("_id", ASCENDING).limit(limit).to_list(limit)
        if not rows:
            return 0, None
        units = [UNITS.decode(row) for row in rows]
        await self._units.bulk_write(
            [
                UpdateOne({"_id": u.code, "version": u.version}, {"$set": unit_search_fields(u)})
                for u in units
            ],
            ordered=False,
        )
        return len(units), units[-1].code


def query_of(root: str | None, filters: Filters, after: str | None) -> Document:
    """One index, on terms or on the constituency, finds what matches; without either, codes are in order."""
    query: Document = {"successors": {"$exists": True} if filters.retired else None}
    code: Document = dict(subtree(root)) if root is not None else {}
    if after is not None:
        code = {**code, "$gt": after}
    if code:
        query["_id"] = code
    if filters.level is not None:
        query["level"] = filters.level
    if filters.constituency is not None:
        query["constituency"] = filters.constituency
    if filters.words:
        query["$and"] = [{"$or": list(_meant(word))} for word in filters.words]
    return query


def _meant(word: str) -> list[Document]:
    """A word of the name begins with the word, or sounds like it. What is too short to have a sound is taken
    as it is written."""
    # $elemMatch, or one term could satisfy the lower bound and another the upper one.
    ways: list[Document] = [{"terms": {"$elemMatch": {"$gte": word, "$lt": word + _HIGHEST}}}]
    if len(latin(word)) >= _SHORTEST:
        ways.append({"terms": SOUND + sound_key(word)})
    return ways


async def _create(database: Database) -> None:
    await create(database, "tree", required={"version": {"bsonType": ["int", "long"]}})
    await database["units"].create_indexes(
        [
            IndexModel([("terms", 1), ("_id", 1)]),
            IndexModel(
                [("constituency", 1), ("_id", 1)],
                partialFilterExpression={"constituency": {"$gt": 0}},
            ),
        ]
    )


MIGRATIONS: Final = (Migration("tree-0001", "tree, terms and constituencies of units", _create),)
