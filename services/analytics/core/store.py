"""Facts and counters: the only queries of analytics.

members, placements, groups, notifications, units   {_id, upto, beyond, at, ...values}: facts, one a subject
counters   {_id: "<unit>#<slot>", unit, depth, at, values: {members: {total, by_gender: {...}}, ...}} days
{_id: "<unit>#<day>#<slot>", unit, day: "2026-11-23", values: {members: {joined}, ...}}

Every batch adds to the counters of the root. Consumers that share the work would wait for each other there,
so a unit's counter is spread over slots: each process writes to its own, and readers sum them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

from pymongo import IndexModel, InsertOne, ReplaceOne, UpdateOne

from services.analytics.core.counting import EVERYWHERE, Changes
from services.analytics.core.facts import Fact, Statement, forget
from services.shared.contracts.vocabulary import UnitLevel, subtree
from services.shared.database import Collection, Database, Document, Migration, Session, create, in_snapshot

FACTS: Final = ("members", "placements", "groups", "notifications", "units")
"""The collections of facts, one for each projection."""
SLOTS: Final = 16
_LIVE: Final[Document] = {"retired": None}
CHUNK: Final = 1000
"""Rows per fetch where all of a large tree is read, so that decoding never blocks the event loop for long."""


@dataclass(slots=True)
class Totals:
    """A unit's counters, summed over slots. `at` is when the newest event in them happened."""

    values: Counter[str] = field(default_factory=Counter)
    at: datetime | None = None

    def add(self, row: Document) -> None:
        self.values.update(dict(_flat(row.get("values", {}))))
        self.at = max((t for t in (self.at, row.get("at")) if t), default=None)


class CounterStore:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._units: Collection = database["units"]
        self._counters: Collection = database["counters"]
        self._days: Collection = database["days"]
        self._slot = random.randrange(SLOTS)  # noqa: S311 (not a secret)

    async def facts(self, projection: str, ids: Sequence[str], session: Session) -> dict[str, Fact]:
        found = self._database[projection].find({"_id": {"$in": list(ids)}}, session=session)
        return {row["_id"]: _fact(row) async for row in found}

    async def heard(self, projection: str, ids: Sequence[str], session: Session) -> dict[str, int]:
        """The highest sequence known of each subject."""
        return {id_: fact.newest for id_, fact in (await self.facts(projection, ids, session)).items()}

    async def forget_heard(self, projection: str, ids: Sequence[str], session: Session) -> None:
        """Forget the sequences of these subjects; what is counted of them stays."""
        forgotten = [forget(fact) for fact in (await self.facts(projection, ids, session)).values()]
        if forgotten:
            writes = [ReplaceOne({"_id": fact.subject}, _document(fact)) for fact in forgotten]
            await self._database[projection].bulk_write(writes, ordered=False, session=session)

    async def save(
        self, projection: str, new: Sequence[Fact], grown: Sequence[Fact], changes: Changes, session: Session
    ) -> None:
        """Insert the new facts, replace the grown ones and add the changes to this process's slots.

        Raises: `BulkWriteError` (duplicate key) when another process has just inserted one of the new facts.
        """
        facts: list[InsertOne[Document] | ReplaceOne[Document]] = [InsertOne(_document(fact)) for fact in new]
        facts += [ReplaceOne({"_id": fact.subject}, _document(fact)) for fact in grown]
        for collection, writes in (
            (self._database[projection], facts),
            (self._counters, self._added_totals(changes)),
            (self._days, self._added_flows(changes)),
        ):
            if writes:
                await collection.bulk_write(writes, ordered=False, session=session)

    def _added_totals(self, changes: Changes) -> list[UpdateOne]:
        by_unit: dict[str, dict[str, int]] = {}
        for (unit, key), n in changes.totals.items():
            if n:
                by_unit.setdefault(unit, {})[f"values.{key}"] = n
        return [
            UpdateOne(
                {"_id": f"{unit}#{self._slot}"},
                {
                    "$inc": added,
                    "$max": {"at": changes.newest},
                    "$setOnInsert": {"unit": unit, "depth": depth(unit)},
                },
                upsert=True,
            )
            for unit, added in by_unit.items()
        ]

    def _added_flows(self, changes: Changes) -> list[UpdateOne]:
        by_day: dict[tuple[str, str], dict[str, int]] = {}
        for (unit, day, metric), n in changes.flows.items():
            by_day.setdefault((unit, day.isoformat()), {})[f"values.{metric}"] = n
        return [
            UpdateOne(
                {"_id": f"{unit}#{day}#{self._slot}"},
                {"$inc": added, "$setOnInsert": {"unit": unit, "day": day}},
                upsert=True,
            )
            for (unit, day), added in by_day.items()
        ]

    async def held(self, projection: str, id_: str) -> Statement | None:
        """The values known of a subject now, without the sequences."""
        row = await self._database[projection].find_one({"_id": id_})
        return _fact(row).values if row else None

    async def knows(self, unit: str) -> bool:
        """Whether the unit was announced, or anything was counted in it before it was."""
        if unit == EVERYWHERE or await self._units.find_one({"_id": unit}, {"_id": 1}):
            return True
        return await self._counters.find_one({"unit": unit}, {"_id": 1}) is not None

    async def totals(self, units: Iterable[str]) -> dict[str, Totals]:
        """The counters of each of `units`, all at one instant; zeros where there is nothing."""
        sums = {unit: Totals() for unit in units}
        async for row in in_snapshot(self._counters).find({"unit": {"$in": list(sums)}}):
            sums[row["unit"]].add(row)
        return sums

    async def flows(self, unit: str, metric: str, first: date, last: date) -> dict[date, int]:
        """How many of `metric` on each day that has any."""
        rows = self._days.aggregate(
            [
                {"$match": {"unit": unit, "day": {"$gte": first.isoformat(), "$lte": last.isoformat()}}},
                {"$group": {"_id": "$day", "n": {"$sum": f"$values.{metric}"}}},
            ]
        )
        return {date.fromisoformat(row["_id"]): row["n"] async for row in rows if row["n"]}

    async def depth_of(self, level: str) -> int | None:
        """The depth of the units of this level; None when none was announced."""
        row = await self._units.find_one({"level": level}, {"_id": 1})
        return depth(row["_id"]) if row else None

    async def units(self, root: str, level: str, after: str, limit: int) -> list[Fact]:
        """Announced units of `level` in the subtree that are live, by code, from the first one after
        `after`."""
        query = {"_id": {**_within("_id", root).get("_id", {}), "$gt": after}, "level": level, **_LIVE}
        return [_fact(row) async for row in self._units.find(query).sort("_id", 1).limit(limit)]

    async def announced(self, levels: Sequence[UnitLevel]) -> list[str]:
        query = {"level": {"$in": [level.value for level in levels]}, **_LIVE}
        found = self._units.find(query, {"_id": 1})
        return [row["_id"] async for row in found]

    async def every(self, root: str, level: str) -> list[tuple[Fact, Totals]]:
        """All announced units of `level` in the subtree that are live, with their counters."""
        units = self._units.find({"level": level, **_within("_id", root), **_LIVE}).batch_size(CHUNK)
        found = {row["_id"]: (_fact(row), Totals()) async for row in units}
        if not found:
            return []
        query = {"depth": depth(next(iter(found))), **_within("unit", root)}
        async for row in in_snapshot(self._counters).find(query).batch_size(CHUNK):
            if row["unit"] in found:
                found[row["unit"]][1].add(row)
        return list(found.values())


def depth(unit: str) -> int:
    """0 for a root, 3 for a booth; -1 for the sum over all roots."""
    return -1 if unit == EVERYWHERE else unit.count("-")


def _within(name: str, root: str) -> dict[str, Any]:
    return {} if root == EVERYWHERE else {name: subtree(root)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, int]]:
    """`{"a": {"b": 1}}` -> `("a.b", 1)`."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _document(fact: Fact) -> Document:
    return {"_id": fact.subject, **fact.values, "upto": fact.upto, "beyond": list(fact.beyond), "at": fact.at}


def _fact(row: Document) -> Fact:
    subject, upto, beyond, at = (row.pop(name) for name in ("_id", "upto", "beyond", "at"))
    return Fact(subject, upto, tuple(beyond), at, row)


async def _counters(database: Database) -> None:
    unit = {"unit": {"bsonType": "string"}}
    by_depth = IndexModel([("depth", 1), ("unit", 1)])
    await create(database, "counters", required=unit, indexes=[IndexModel("unit"), by_depth])
    await create(database, "days", required=unit, indexes=[IndexModel([("unit", 1), ("day", 1)])])


MIGRATIONS: Final = (Migration("core-0001", "counters and days", _counters),)
