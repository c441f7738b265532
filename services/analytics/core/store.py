"""Facts and counters of the projections that count, each in the collections of its place (`places`):

facts      {_id, upto, beyond, at, ...values}: one a subject
counters   {_id: "<unit>#<slot>", unit, depth, at, values: {members: {total, by_gender: {...}}, ...}}
days       {_id: "<unit>#<day>#<slot>", unit, day: "2026-11-23", values: {members: {joined}, ...}}

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

from services.analytics.core.counting import EVERYWHERE, Changes, Projection
from services.analytics.core.facts import Fact, Statement, forget
from services.analytics.core.places import Place, Pointer, Pointers
from services.shared.contracts.vocabulary import UnitLevel, subtree
from services.shared.database import Collection, Database, Document, Migration, Session, create, in_snapshot

SLOTS: Final = 16
_LIVE: Final[Document] = {"retired": None}
CHUNK: Final = 1000
"""Rows per fetch where all of a large tree is read, so that decoding never blocks the event loop for long."""


@dataclass(slots=True)
class Totals:
    """A unit's counters, summed over slots. `at` is when the newest event in them happened."""

    values: Counter[str] = field(default_factory=Counter)
    at: datetime | None = None

    def add(self, row: Document, own: Sequence[Projection]) -> None:
        """Add one slot of a collection in which the projections `own` live; others may have lived there."""
        values = _flat(row.get("values", {}))
        self.values.update({key: n for key, n in values if any(each.has(key) for each in own)})
        self.at = max((t for t in (self.at, row.get("at")) if t), default=None)


class CounterStore:
    """Reads where the pointer says that each projection is live, and writes where it is told to."""

    def __init__(self, database: Database, pointers: Pointers) -> None:
        self._database = database
        self._pointers = pointers
        self._catalogue: Sequence[Projection] = ()
        self._slot = random.randrange(SLOTS)  # noqa: S311 (not a secret)

    def register(self, projections: Sequence[Projection]) -> None:
        """Tell whose counters and flows are read here."""
        self._catalogue = projections

    # -- folding ---------------------------------------------------------------------------------------------

    async def facts(self, place: Place, ids: Sequence[str], session: Session) -> dict[str, Fact]:
        found = self._facts(place).find({"_id": {"$in": list(ids)}}, session=session)
        return {row["_id"]: _fact(row) async for row in found}

    async def heard(self, projection: str, ids: Sequence[str], session: Session) -> dict[str, int]:
        """The highest sequence known of each subject."""
        place = (await self._pointers.read(session)).place(projection)
        facts = await self.facts(place, ids, session) if place else {}
        return {id_: fact.newest for id_, fact in facts.items()}

    async def forget_heard(self, projection: str, ids: Sequence[str], session: Session) -> None:
        """Forget the sequences of these subjects, also where the projection is being built; what is counted
        of them stays."""
        for place in (await self._pointers.read(session)).every(projection):
            forgotten = [forget(fact) for fact in (await self.facts(place, ids, session)).values()]
            if forgotten:
                writes = [ReplaceOne({"_id": fact.subject}, _document(fact)) for fact in forgotten]
                await self._facts(place).bulk_write(writes, ordered=False, session=session)

    async def save(
        self, place: Place, new: Sequence[Fact], grown: Sequence[Fact], changes: Changes, session: Session
    ) -> None:
        """Insert the new facts, replace the grown ones and add the changes to this process's slots.

        Raises: `BulkWriteError` (duplicate key) when another process has just inserted one of the new facts.
        """
        facts: list[InsertOne[Document] | ReplaceOne[Document]] = [InsertOne(_document(fact)) for fact in new]
        facts += [ReplaceOne({"_id": fact.subject}, _document(fact)) for fact in grown]
        for collection, writes in (
            (self._facts(place), facts),
            (self._database[place.named("counters")], self._added_totals(changes)),
            (self._database[place.named("days")], self._added_flows(changes)),
        ):
            if writes:
                await collection.bulk_write(writes, ordered=False, session=session)

    async def create(self, place: Place) -> None:
        """Create the collections of one generation."""
        await create_facts(self._database, place.named("facts"), levels=place.projection == "units")
        await create_counters(self._database, place.named("counters"), place.named("days"))

    def _facts(self, place: Place) -> Collection:
        return self._database[place.named("facts")]

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

    # -- reading ---------------------------------------------------------------------------------------------

    async def held(self, projection: str, id_: str) -> Statement | None:
        """The values known of a subject now, without the sequences."""
        place = (await self._pointers.read()).place(projection)
        row = await self._facts(place).find_one({"_id": id_}) if place else None
        return _fact(row).values if row else None

    async def knows(self, unit: str) -> bool:
        """Whether the unit was announced, or anything was counted in it before it was."""
        pointer = await self._pointers.read()
        units = pointer.place("units")
        if unit == EVERYWHERE or (units and await self._facts(units).find_one({"_id": unit}, {"_id": 1})):
            return True
        for name in self._counted(pointer):
            if await self._database[name].find_one({"unit": unit}, {"_id": 1}):
                return True
        return False

    async def totals(self, units: Iterable[str]) -> dict[str, Totals]:
        """The counters of each of `units`, each projection's at one instant; zeros where there is nothing."""
        sums = {unit: Totals() for unit in units}
        for name, own in self._counted(await self._pointers.read()).items():
            found = in_snapshot(self._database[name]).find({"unit": {"$in": list(sums)}})
            async for row in found:
                sums[row["unit"]].add(row, own)
        return sums

    async def flows(self, unit: str, metric: str, first: date, last: date) -> dict[date, int]:
        """How many of `metric` on each day that has any."""
        pointer = await self._pointers.read()
        place = next(pointer.place(each.name) for each in self._catalogue if each.has(metric))
        if place is None:
            return {}
        rows = self._database[place.named("days")].aggregate(
            [
                {"$match": {"unit": unit, "day": {"$gte": first.isoformat(), "$lte": last.isoformat()}}},
                {"$group": {"_id": "$day", "n": {"$sum": f"$values.{metric}"}}},
            ]
        )
        return {date.fromisoformat(row["_id"]): row["n"] async for row in rows if row["n"]}

    async def depth_of(self, level: str) -> int | None:
        """The depth of the units of this level; None when none was announced."""
        units = (await self._pointers.read()).place("units")
        row = await self._facts(units).find_one({"level": level}, {"_id": 1}) if units else None
        return depth(row["_id"]) if row else None

    async def units(self, root: str, level: str, after: str, limit: int) -> list[Fact]:
        """Announced units of `level` in the subtree that are live, by code, from the first one after
        `after`."""
        units = (await self._pointers.read()).place("units")
        query = {"_id": {**_within("_id", root).get("_id", {}), "$gt": after}, "level": level, **_LIVE}
        if units is None:
            return []
        return [_fact(row) async for row in self._facts(units).find(query).sort("_id", 1).limit(limit)]

    async def announced(self, levels: Sequence[UnitLevel]) -> list[str]:
        units = (await self._pointers.read()).place("units")
        if units is None:
            return []
        query = {"level": {"$in": [level.value for level in levels]}, **_LIVE}
        return [row["_id"] async for row in self._facts(units).find(query, {"_id": 1})]

    async def every(self, root: str, level: str) -> list[tuple[Fact, Totals]]:
        """All announced units of `level` in the subtree that are live, with their counters."""
        pointer = await self._pointers.read()
        units = pointer.place("units")
        if units is None:
            return []
        rows = self._facts(units).find({"level": level, **_within("_id", root), **_LIVE}).batch_size(CHUNK)
        found = {row["_id"]: (_fact(row), Totals()) async for row in rows}
        if not found:
            return []
        query = {"depth": depth(next(iter(found))), **_within("unit", root)}
        for name, own in self._counted(pointer).items():
            async for row in in_snapshot(self._database[name]).find(query).batch_size(CHUNK):
                if row["unit"] in found:
                    found[row["unit"]][1].add(row, own)
        return list(found.values())

    def _counted(self, pointer: Pointer) -> Mapping[str, Sequence[Projection]]:
        """The collections of counters, and the projections that live in each."""
        names: dict[str, list[Projection]] = {}
        for each in self._catalogue:
            place = pointer.place(each.name)
            if place is not None:
                names.setdefault(place.named("counters"), []).append(each)
        return names


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


async def create_facts(database: Database, name: str, *, levels: bool) -> None:
    """Create a collection of facts; those of units are listed by level."""
    by_level = [IndexModel([("level", 1), ("_id", 1)])] if levels else []
    await create(database, name, required={"upto": {"bsonType": "int"}}, indexes=by_level)


async def create_counters(database: Database, counters: str, days: str) -> None:
    unit = {"unit": {"bsonType": "string"}}
    by_depth = IndexModel([("depth", 1), ("unit", 1)])
    await create(database, counters, required=unit, indexes=[IndexModel("unit"), by_depth])
    await create(database, days, required=unit, indexes=[IndexModel([("unit", 1), ("day", 1)])])


async def _counters(database: Database) -> None:
    await create_counters(database, "counters", "days")


MIGRATIONS: Final = (Migration("core-0001", "counters and days", _counters),)
