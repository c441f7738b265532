"""The collections of redrawing, and their queries.

`comparisons {_id, root?, by, state, tree_version, job, apply_job?, cursor?, counts, created_at, updated_at}`
`comparison_units {_id: "<comparison>/<code>", comparison, code, n, unit, predecessors}`: the wanted tree.
`comparison_changes {_id: "<comparison>/<n>", comparison, n, ...Change}`: in the order of applying.
`officers {_id: member id, sequence, roles: [{role, unit, until?}]}`: as the events of members say.

Wanted units and changes are deleted with their comparison, after `RETENTION`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection as Many
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from pymongo import ASCENDING, IndexModel, UpdateOne

from services.groups.core.domain import PlacementState, Unit
from services.groups.core.store import UNITS
from services.groups.tree.redrawing.domain import RETIRING, Change, Held, Wanted
from services.shared.contracts.vocabulary import subtree
from services.shared.database import Codec, Collection, Database, Document, Migration, Session, create

RETENTION: Final = timedelta(days=30)
"""How long a comparison can be looked at. Successions stay for good, with the units."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """`state` is `comparing`, `ready`, `applying` or `applied`. `tree_version` is that of the tree it was
    made from, or, once it is being applied, as its last step left it. `cursor` is where applying goes on."""

    id: str
    by: str
    state: str
    job: str
    tree_version: int
    created_at: datetime
    updated_at: datetime
    root: str | None = None
    apply_job: str | None = None
    cursor: Mapping[str, Any] | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


_COMPARISON: Final = Codec(Comparison, id_field="id", omit_none=["root", "apply_job", "cursor"])
_PLACED: Final = {
    "state": {"$nin": [PlacementState.LEFT.value, PlacementState.REMOVED.value]},
}


class RedrawingStore:
    def __init__(self, database: Database) -> None:
        self._comparisons: Collection = database["comparisons"]
        self._wanted: Collection = database["comparison_units"]
        self._changes: Collection = database["comparison_changes"]
        self._officers: Collection = database["officers"]
        self._units: Collection = database["units"]
        self._groups: Collection = database["groups"]
        self._placements: Collection = database["placements"]

    async def add(self, comparison: Comparison, session: Session) -> None:
        await self._comparisons.insert_one(_COMPARISON.encode(comparison), session=session)

    async def find(self, id_: str, session: Session | None = None) -> Comparison | None:
        row = await self._comparisons.find_one({"_id": id_}, session=session)
        return _COMPARISON.decode(row) if row else None

    async def page(self, root: str | None, after: str | None, limit: int) -> list[Comparison]:
        """The newest first, after the id `after`; `root` limits them to the units of a subtree."""
        query: Document = {"root": subtree(root)} if root else {}
        if after is not None:
            query["_id"] = {"$lt": after}
        rows = await self._comparisons.find(query).sort("_id", -1).limit(limit).to_list(limit)
        return [_COMPARISON.decode(row) for row in rows]

    async def change(self, id_: str, fields: Document, counts: Mapping[str, int], session: Session) -> None:
        added = {f"counts.{word}": n for word, n in counts.items() if n}
        update: Document = {"$set": fields, **({"$inc": added} if added else {})}
        await self._comparisons.update_one({"_id": id_}, update, session=session)

    async def add_wanted(
        self, id_: str, wanted: Mapping[int, Wanted], now: datetime, session: Session
    ) -> None:
        rows = [
            {
                "_id": f"{id_}/{each.unit.code}",
                "comparison": id_,
                "code": each.unit.code,
                "n": n,
                "unit": UNITS.encode(each.unit),
                "predecessors": list(each.predecessors),
                "at": now,
            }
            for n, each in wanted.items()
        ]
        await self._wanted.insert_many(rows, session=session)

    async def wanted(self, id_: str, after: int, limit: int) -> dict[int, Wanted]:
        """Units of the wanted tree by their number, those above first, from the one after `after`."""
        query = {"comparison": id_, "n": {"$gt": after}}
        rows = await self._wanted.find(query).sort("n", ASCENDING).limit(limit).to_list(limit)
        return {row["n"]: _wanted(row) for row in rows}

    async def kept(self, id_: str, codes: Many[str]) -> set[str]:
        """The codes among these that the wanted tree has."""
        rows = self._wanted.find({"_id": {"$in": [f"{id_}/{code}" for code in codes]}}, {"code": 1})
        return {row["code"] async for row in rows}

    async def heirs(self, id_: str, codes: Many[str]) -> dict[str, list[Wanted]]:
        """The wanted units that succeed each of these, in the order of the tree."""
        query = {"comparison": id_, "predecessors": {"$in": list(codes)}}
        heirs: dict[str, list[Wanted]] = {}
        async for row in self._wanted.find(query).sort("n", ASCENDING):
            for code in set(row["predecessors"]) & set(codes):
                heirs.setdefault(code, []).append(_wanted(row))
        return heirs

    async def live(self, root: str | None, after: str, limit: int) -> list[Unit]:
        """Live units of the subtree by code, from the first one after `after`."""
        code = {**(subtree(root) if root else {}), "$gt": after}
        rows = self._units.find({"_id": code, "successors": None}).sort("_id", ASCENDING).limit(limit)
        return [UNITS.decode(row) async for row in rows]

    async def held(self, codes: Sequence[str]) -> dict[str, Held]:
        """The holdings of each of these units itself, of those that have any."""
        members = await _counted(self._placements, {"unit": {"$in": list(codes)}, **_PLACED}, "$unit")
        groups = await _counted(self._groups, {"unit": {"$in": list(codes)}}, "$unit")
        officers: Counter[str] = Counter()
        rows = self._officers.find({"roles.unit": {"$in": list(codes)}}, {"roles": 1})
        async for row in rows:
            officers.update(role["unit"] for role in row["roles"])
        return {
            code: Held(members.get(code, 0), groups.get(code, 0), officers[code])
            for code in codes
            if code in members or code in groups or officers[code]
        }

    async def add_changes(
        self, id_: str, changes: Mapping[int, Change], now: datetime, session: Session
    ) -> None:
        if changes:
            rows = [_change_row(id_, n, change, now) for n, change in changes.items()]
            await self._changes.insert_many(rows, session=session)

    async def changes(
        self, id_: str, after: int, limit: int, kind: str | None = None, *, retiring: bool = False
    ) -> dict[int, Change]:
        """Changes by their number, from the one after `after`; of one kind, or only those that retire a
        unit."""
        query: Document = {"comparison": id_, "n": {"$gt": after}}
        if retiring:
            query["kind"] = {"$in": [each.value for each in RETIRING]}
        if kind is not None:
            query["kind"] = kind
        rows = await self._changes.find(query).sort("n", ASCENDING).limit(limit).to_list(limit)
        return {row["n"]: _change(row) for row in rows}

    async def held_units(self, codes: Sequence[str]) -> list[str]:
        """The units among these that hold a placed member."""
        found: list[str] = await self._placements.distinct("unit", {"unit": {"$in": list(codes)}, **_PLACED})
        return found

    async def last_ordinals(self, units: Many[str], session: Session) -> dict[str, dict[str, int]]:
        """The highest ordinal of each kind of group of these units."""
        pipeline: list[Document] = [
            {"$match": {"unit": {"$in": list(units)}}},
            {"$group": {"_id": {"unit": "$unit", "kind": "$kind"}, "last": {"$max": "$ordinal"}}},
        ]
        found: dict[str, dict[str, int]] = {}
        async for row in self._groups.aggregate(pipeline, session=session):
            found.setdefault(row["_id"]["unit"], {})[row["_id"]["kind"]] = row["last"]
        return found

    async def groups_in(self, units: Many[str], session: Session) -> dict[str, str]:
        """The groups of `units`: `{id: unit}`."""
        rows = self._groups.find({"unit": {"$in": list(units)}}, {"unit": 1}, session=session)
        return {row["_id"]: row["unit"] async for row in rows}

    async def seated(self, groups: Many[str], after: str, limit: int, session: Session) -> list[str]:
        """Members who have a seat in one of these groups, from the one after `after`."""
        found: set[str] = set()
        for seat in ("group_id", "seats.group_id"):
            query = {seat: {"$in": list(groups)}, "_id": {"$gt": after}}
            rows = self._placements.find(query, {"_id": 1}, session=session).sort("_id", ASCENDING)
            found |= {row["_id"] async for row in rows.limit(limit)}
        return sorted(found)[:limit]

    async def hold_roles(self, roles: Mapping[str, tuple[int, list[Document]]], session: Session) -> None:
        """Keep the roles of members, each as of a sequence; an older one changes nothing."""
        known = {
            row["_id"]: row["sequence"]
            async for row in self._officers.find(
                {"_id": {"$in": list(roles)}}, {"sequence": 1}, session=session
            )
        }
        writes = [
            UpdateOne({"_id": id_}, {"$set": {"sequence": sequence, "roles": held}}, upsert=True)
            for id_, (sequence, held) in roles.items()
            if sequence > known.get(id_, 0) and (held or id_ in known)
        ]
        if writes:
            await self._officers.bulk_write(writes, ordered=False, session=session)


async def _counted(collection: Collection, match: Document, by: str) -> dict[str, int]:
    pipeline: list[Document] = [{"$match": match}, {"$group": {"_id": by, "n": {"$sum": 1}}}]
    return {row["_id"]: row["n"] async for row in collection.aggregate(pipeline)}


def _wanted(row: Document) -> Wanted:
    return Wanted(UNITS.decode(row["unit"]), tuple(row["predecessors"]))


def _change_row(id_: str, n: int, change: Change, now: datetime) -> Document:
    return {
        "_id": f"{id_}/{n}",
        "comparison": id_,
        "n": n,
        "kind": change.kind,
        "code": change.code,
        "wanted": UNITS.encode(change.wanted) if change.wanted else None,
        "predecessors": list(change.predecessors),
        "successors": list(change.successors),
        "held": [change.held.members, change.held.groups, change.held.officers],
        "refused": change.refused,
        "at": now,
    }


def _change(row: Document) -> Change:
    return Change(
        row["kind"],
        row["code"],
        UNITS.decode(row["wanted"]) if row["wanted"] else None,
        tuple(row["predecessors"]),
        tuple(row["successors"]),
        Held(*row["held"]),
        row["refused"],
    )


async def _create(database: Database) -> None:
    text = {"bsonType": "string"}
    seconds = int(RETENTION.total_seconds())
    await create(
        database,
        "comparisons",
        required={"state": text, "job": text},
        indexes=[IndexModel("created_at", expireAfterSeconds=seconds)],
    )
    await create(
        database,
        "comparison_units",
        required={"comparison": text, "code": text},
        indexes=[
            IndexModel([("comparison", 1), ("n", 1)]),
            IndexModel([("comparison", 1), ("predecessors", 1)]),
            IndexModel("at", expireAfterSeconds=seconds),
        ],
    )
    await create(
        database,
        "comparison_changes",
        required={"comparison": text, "code": text, "kind": text},
        indexes=[
            IndexModel([("comparison", 1), ("n", 1)]),
            IndexModel([("comparison", 1), ("kind", 1), ("n", 1)]),
            IndexModel("at", expireAfterSeconds=seconds),
        ],
    )
    await create(database, "officers", indexes=[IndexModel("roles.unit")])
    await database["placements"].create_indexes([IndexModel([("unit", 1), ("_id", 1)])])


MIGRATIONS: Final = (Migration("redrawing-0001", "comparisons, officers, placements by unit", _create),)
