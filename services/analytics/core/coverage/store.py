"""The collections of coverage, in each generation of its projection:

facts      {_id, <tracks>}: the record of one member, group or unit (see `domain`)
months     {_id: "<unit>#<month>#<slot>", unit, month: "2026-11", sum: {women: {"3": n}}, days: {"27": {...}}}
           what changed on each day among the units of each depth at or below `unit`
standing   {_id: <unit>, roots, gain, reason, figures, flags}: the unit's next effort, and what held when
unsettled  {_id, units: [[unit, day]]} or {_id, below, day, after}: units whose figures changed since a day
           and whose standing is to be worked out again

The figures of a day are the sums of all months before it and of the days of its month. Processes write into
slots of their own, as in `counters`.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from pymongo import DeleteOne, IndexModel, InsertOne, ReplaceOne, UpdateOne

from services.analytics.core.counting import EVERYWHERE, rollup
from services.analytics.core.coverage.domain import (
    FLAGS,
    LIVE,
    RUN,
    STAGES,
    UNITS,
    Deltas,
    Record,
    announced_on,
    flags,
    next_effort,
    retired_on,
    target_on,
)
from services.analytics.core.places import Place, Pointers
from services.analytics.core.store import SLOTS, depth
from services.shared.contracts.vocabulary import lineage, subtree
from services.shared.database import Collection, Database, Document, Session, create, in_snapshot
from services.shared.errors import TransientError
from services.shared.ids import new_id

PROJECTION: Final = "coverage"
MAX_DEPTH: Final = 7
"""Depth of a leaf of the deepest tree."""
ALWAYS: Final = ""
"""Before every day."""
NEVER: Final = "9999"
"""After every day."""
SETTLE_ROWS: Final = 64
SETTLE_UNITS: Final = 300
"""Units whose standing one transaction works out."""
MARKED: Final = frozenset({"women", "disclosed", LIVE, RUN, UNITS, *STAGES[:4]})
"""Figures on which a unit's standing depends."""

Sums: TypeAlias = Counter[tuple[str, int]]


@dataclass(slots=True)
class Figures:
    """A unit's figures on one day: `(key, depth) -> n`, of the units of each depth at or below it."""

    sums: Sums = field(default_factory=Counter)

    def add(self, values: Mapping[str, Mapping[str, int]]) -> None:
        for key, by_depth in values.items():
            for level, n in by_depth.items():
                self.sums[key, int(level)] += n

    def total(self, least: int = 0) -> Counter[str]:
        """By key, over all units whose depth is at least `least`."""
        totals: Counter[str] = Counter()
        for (key, level), n in self.sums.items():
            if level >= least:
                totals[key] += n
        return totals

    def at(self, level: int) -> Counter[str]:
        """By key, of the units of one depth."""
        return Counter({key: n for (key, at), n in self.sums.items() if at == level and n})


@dataclass(frozen=True, slots=True)
class Standing:
    """A unit and its next effort. `figures` are the unit's own."""

    unit: str
    reason: str
    gain: int
    figures: Mapping[str, int]
    target: float | None


@dataclass(slots=True)
class Changes:
    """The changes of a batch of events: records by id, the days' figures, and what is to be settled."""

    records: dict[str, tuple[bool, Record]] = field(default_factory=dict)
    """Whether the record is new, and the record."""
    deltas: Deltas = field(default_factory=Counter)
    below: dict[str, str] = field(default_factory=dict)
    """Units whose target changed, and since which day."""


class CoverageStore:
    def __init__(self, database: Database, pointers: Pointers) -> None:
        self._database = database
        self._pointers = pointers
        self._slot = random.randrange(SLOTS)  # noqa: S311 (not a secret)

    # -- folding ---------------------------------------------------------------------------------------------

    async def create(self, place: Place) -> None:
        """Create the collections of one generation."""
        text = {"bsonType": "string"}
        await create(self._database, place.named("facts"))
        await create(
            self._database,
            place.named("months"),
            required={"unit": text, "month": text},
            indexes=[IndexModel([("unit", 1), ("month", 1)])],
        )
        await create(
            self._database,
            place.named("standing"),
            indexes=[IndexModel([("roots", 1), ("gain", -1), ("_id", 1)])],
        )
        await create(self._database, place.named("unsettled"))

    async def records(self, place: Place, ids: Iterable[str], session: Session) -> dict[str, Record]:
        found = self._of(place, "facts").find({"_id": {"$in": list(ids)}}, session=session)
        return {row["_id"]: row async for row in found}

    async def save(self, place: Place, changes: Changes, session: Session, *, mark: bool) -> None:
        """Write the records and add the deltas. With `mark`, what follows of them is left to be settled.

        Raises: `BulkWriteError` (duplicate key) when another process has just inserted one of the records.
        """
        facts: list[InsertOne[Document] | ReplaceOne[Document]] = [
            InsertOne(record) if new else ReplaceOne({"_id": id_}, record)
            for id_, (new, record) in changes.records.items()
        ]
        if facts:
            await self._of(place, "facts").bulk_write(facts, ordered=False, session=session)
        await self._add(place, changes.deltas, session)
        if mark and (rows := _unsettled(changes)):
            await self._of(place, "unsettled").insert_many(rows, session=session)

    async def forget(self, ids: Iterable[str], session: Session, renumber: Any) -> None:
        """Replace the records of these subjects by `renumber(record)`, wherever they are."""
        for place in (await self._pointers.read(session)).every(PROJECTION):
            found = await self.records(place, ids, session)
            if found:
                writes = [ReplaceOne({"_id": id_}, renumber(record)) for id_, record in found.items()]
                await self._of(place, "facts").bulk_write(writes, ordered=False, session=session)

    async def live_records(self, ids: Iterable[str], session: Session | None = None) -> dict[str, Record]:
        """The records of these subjects where the projection is live."""
        place = (await self._pointers.read(session)).place(PROJECTION)
        if place is None:
            return {}
        found = self._of(place, "facts").find({"_id": {"$in": list(ids)}}, session=session)
        return {row["_id"]: row async for row in found}

    async def _add(self, place: Place, deltas: Deltas, session: Session) -> None:
        by_month: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for (unit, day, key), n in deltas.items():
            if n:
                at, month, of_month = f"{key}.{depth(unit)}", day[:7], day[8:]
                for above in rollup(unit):
                    by_month[above, month][f"sum.{at}"] += n
                    by_month[above, month][f"days.{of_month}.{at}"] += n
        writes = [
            UpdateOne(
                {"_id": f"{unit}#{month}#{self._slot}"},
                {"$inc": added, "$setOnInsert": {"unit": unit, "month": month}},
                upsert=True,
            )
            for (unit, month), sums in by_month.items()
            if (added := {path: n for path, n in sums.items() if n})
        ]
        if writes:
            await self._of(place, "months").bulk_write(writes, ordered=False, session=session)

    # -- settling --------------------------------------------------------------------------------------------

    async def is_settled(self, place: Place) -> bool:
        return await self._of(place, "unsettled").find_one({}, {"_id": 1}) is None

    async def settle(self, place: Place, session: Session) -> int:
        """Work out again the standing of some units whose figures have changed; answers how many rows that
        took.

        Raises: `TransientError` when another process settles the same.
        """
        rows = self._of(place, "unsettled").find({}, session=session).sort("_id", 1).limit(SETTLE_ROWS)
        since: dict[str, str] = {}
        done: list[DeleteOne | ReplaceOne[Document]] = []
        async for row in rows:
            if len(since) >= SETTLE_UNITS:
                break
            if "below" in row:
                units = await self._announced(place, row["below"], row["after"], session)
                done.append(
                    ReplaceOne({"_id": row["_id"]}, {**row, "after": units[-1]})
                    if len(units) == SETTLE_UNITS
                    else DeleteOne({"_id": row["_id"]})
                )
                changed = [(unit, row["day"]) for unit in units]
            else:
                done.append(DeleteOne({"_id": row["_id"]}))
                changed = [(above, day) for unit, day in row["units"] for above in lineage(unit)]
            for unit, day in changed:
                since[unit] = min(day, since.get(unit, day))
        if not done:
            return 0
        result = await self._of(place, "unsettled").bulk_write(done, session=session)
        if result.deleted_count + result.modified_count != len(done):
            raise TransientError("settled by another process")
        await self._stand(place, since, session)
        return len(done)

    async def settle_after(self, place: Place, after: str, session: Session) -> str | None:
        """Work out the standing of the units that follow `after`, from the first day on; answers the last of
        them, or None when there is none."""
        units = await self._announced(place, None, after, session)
        await self._stand(place, dict.fromkeys(units, ALWAYS), session)
        return units[-1] if units else None

    async def _announced(self, place: Place, root: str | None, after: str, session: Session) -> list[str]:
        query: Document = {"_id": {**(subtree(root) if root else {}), "$gt": after}, "u": {"$exists": True}}
        if root and not after:
            query["_id"].pop("$gt")
        found = self._of(place, "facts").find(query, {"_id": 1}, session=session)
        return [row["_id"] async for row in found.sort("_id", 1).limit(SETTLE_UNITS)]

    async def _stand(self, place: Place, since: Mapping[str, str], session: Session) -> None:
        """Work out the standing of these units, from these days on."""
        if not since:
            return
        above = {code for unit in since for code in lineage(unit)}
        records = await self.records(place, above, session)
        announced = {unit: day for unit, day in since.items() if "u" in records.get(unit, {})}
        months = await self._months(place, announced, session)
        found = self._of(place, "standing").find({"_id": {"$in": list(announced)}}, session=session)
        before = {row["_id"]: row async for row in found}
        deltas: Deltas = Counter()
        rows = []
        for unit, day in announced.items():
            chain = [records[code] for code in lineage(unit) if code in records]
            held = before.get(unit, {}).get("flags", [])
            row = _standing(unit, chain, months.get(unit, []), held, day)
            for sign, timeline in ((-1, held), (1, row["flags"])):
                for (when, flag), n in _turns(timeline).items():
                    deltas[unit, when, flag] += sign * n
            if row != before.get(unit):
                rows.append(ReplaceOne({"_id": unit}, row, upsert=True))
        if rows:
            await self._of(place, "standing").bulk_write(rows, ordered=False, session=session)
        await self._add(place, deltas, session)

    async def _months(
        self, place: Place, since: Mapping[str, str], session: Session
    ) -> dict[str, list[Document]]:
        """The months of each unit; of those before all of these days, the sums alone."""
        if not since:
            return {}
        first = min(since.values())[:7]
        months: dict[str, list[Document]] = defaultdict(list)
        for when, fields in (({"$lt": first}, {"unit": 1, "month": 1, "sum": 1}), ({"$gte": first}, None)):
            query = {"unit": {"$in": list(since)}, "month": when}
            async for row in self._of(place, "months").find(query, fields, session=session):
                months[row["unit"]].append(row)
        return months

    # -- reading ---------------------------------------------------------------------------------------------

    async def place(self) -> Place | None:
        return (await self._pointers.read()).place(PROJECTION)

    async def figures(self, place: Place, units: Iterable[str], on: str) -> dict[str, Figures]:
        """The figures of each unit at the end of a day, all at one instant."""
        found = {unit: Figures() for unit in units}
        months = in_snapshot(self._of(place, "months"))
        before = {"unit": {"$in": list(found)}, "month": {"$lt": on[:7]}}
        async for row in months.find(before, {"unit": 1, "sum": 1}):
            found[row["unit"]].add(row["sum"])
        async for row in months.find({"unit": {"$in": list(found)}, "month": on[:7]}, {"unit": 1, "days": 1}):
            for day, values in row["days"].items():
                if day <= on[8:]:
                    found[row["unit"]].add(values)
        return found

    async def history(
        self, place: Place, unit: str, keys: Sequence[str], first: str, last: str
    ) -> dict[str, Counter[str]]:
        """The changes of some of a unit's figures on each day from `first` to `last`. MongoDB adds them up:
        two years of a whole state are more than can be decoded in time."""
        depths = range(depth(unit), MAX_DEPTH + 1)
        each = {key: {"$sum": [f"$days.v.{key}.{level}" for level in depths]} for key in keys}
        pipeline: list[Document] = [
            {"$match": {"unit": unit, "month": {"$gte": first[:7], "$lte": last[:7]}}},
            {"$project": {"month": 1, "days": {"$objectToArray": "$days"}}},
            {"$unwind": "$days"},
            {"$project": {"_id": {"$concat": ["$month", "-", "$days.k"]}, **each}},
            {"$match": {"_id": {"$gte": first, "$lte": last}}},
            {"$group": {"_id": "$_id", **{key: {"$sum": f"${key}"} for key in keys}}},
        ]
        rows = in_snapshot(self._of(place, "months")).aggregate(pipeline)
        return {row.pop("_id"): Counter(row) async for row in rows}

    async def targets(self, place: Place, units: Sequence[str], on: str) -> dict[str, float | None]:
        """The target of each unit on a day: its own, or one inherited from above."""
        above = list({code for unit in units for code in lineage(unit)})
        rows = self._of(place, "facts").find({"_id": {"$in": above}})
        records = {row["_id"]: row async for row in rows}
        return {
            unit: target_on([records[code] for code in lineage(unit) if code in records], on)
            for unit in units
        }

    async def knows(self, place: Place, unit: str) -> bool:
        if unit == EVERYWHERE:
            return True
        return (
            await self._of(place, "facts").find_one({"_id": unit}, {"_id": 1}) is not None
            or await self._of(place, "months").find_one({"unit": unit}, {"_id": 1}) is not None
        )

    async def next(self, place: Place, root: str, limit: int) -> list[Standing]:
        """The units below `root` whose next effort brings on the most women, the most first."""
        found = self._of(place, "standing").find({"roots": root}, {"flags": 0, "roots": 0})
        return [
            Standing(row["_id"], row["reason"], row["gain"], row["figures"], row["target"])
            async for row in found.sort([("gain", -1), ("_id", 1)]).limit(limit)
        ]

    def _of(self, place: Place, what: str) -> Collection:
        return self._database[place.named(what)]


def _unsettled(changes: Changes) -> list[Document]:
    """The rows that say what is to be settled: only inserted, so that no process waits for another."""
    since: dict[str, str] = {}
    for (unit, day, key), n in changes.deltas.items():
        if n and key in MARKED:
            since[unit] = min(day, since.get(unit, day))
    rows: list[Document] = [
        {"_id": new_id(), "below": unit, "day": day, "after": ""} for unit, day in changes.below.items()
    ]
    if since:
        rows.append({"_id": new_id(), "units": [list(pair) for pair in since.items()]})
    return rows


def _standing(
    unit: str, chain: Sequence[Record], months: Sequence[Document], held: Sequence[Any], since: str
) -> Document:
    """The unit's standing, of which what held before `since` stays."""
    level = depth(unit)
    figures, turns = Figures(), defaultdict[str, Figures](Figures)
    for row in months:
        if row["month"] < since[:7]:
            figures.add(row["sum"])
            continue
        for of_month, values in row["days"].items():
            day = f"{row['month']}-{of_month}"
            (figures if day < since else turns[day]).add(values)
    days = {day for day, turn in turns.items() if any(key in MARKED for key, _ in turn.sums)}
    days |= {point[1] for record in chain for point in record.get("u", []) if point[1] >= since}
    days |= {since} if since else set()
    timeline = [entry for entry in held if entry[0] < since]
    end = retired_on(chain[-1]) or NEVER
    for day in sorted(turns.keys() | days):
        if day in turns:
            figures.sums.update(turns[day].sums)
        if day in days:
            now = list(flags(figures.total(), figures.at(level), target_on(chain, day)))
            now = now if announced_on(chain[-1]) <= day < end else []
            if now != (timeline[-1][1] if timeline else []):
                timeline.append([day, now])
    own = figures.at(level)
    target = target_on(chain, NEVER)
    effort = next_effort(own, target) if end == NEVER else None
    return {
        "_id": unit,
        "roots": rollup(unit) if effort else [],
        "gain": effort.gain if effort else 0,
        "reason": effort.reason if effort else None,
        "figures": {key: own[key] for key in ("women", "disclosed", *STAGES[:4]) if own[key]},
        "target": target,
        "flags": timeline,
    }


def _turns(timeline: Sequence[Any]) -> Counter[tuple[str, str]]:
    """When each flag begins (1) and ceases (-1) to hold."""
    turns: Counter[tuple[str, str]] = Counter()
    before: set[str] = set()
    for day, now in timeline:
        for flag in FLAGS:
            if change := (flag in now) - (flag in before):
                turns[day, flag] += change
        before = set(now)
    return turns
