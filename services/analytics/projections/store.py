"""The pointer's changes, and the collections of all generations.

projections   {_id: "live", live: {<projection>: {version, generation, since}}, next: <generation>,
               shadows: [{projection, version, generation, job, follows}],
               retired: [{projection, generation, at}], hold: {job, until} or null}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from services.analytics.core.coverage.domain import FLAGS
from services.analytics.core.places import COLLECTION, FIRST, POINTER, Place, Pointer, pointer_of
from services.analytics.core.store import create_facts
from services.shared.database import Database, Document, Session

HOLD_MILLISECONDS: Final = 10_000
"""How long consumers wait for a build at most."""
_GENERATION: Final = re.compile(r"(?P<projection>[a-z_]+)\.(?P<generation>[0-9]+)\.(?P<what>[a-z_]+)")
_SLOTTED: Final = ("counters", "days", "months")
_BOOKKEEPING: Final = ("_id", "upto", "beyond", "at")

Has: TypeAlias = Callable[[str], bool]


def first_pointer(versions: Mapping[str, int]) -> Document:
    """These projections, live in their first generation."""
    live = {name: {"version": n, "generation": 0, "since": None} for name, n in versions.items()}
    return {"live": live, "next": 1, "shadows": [], "retired": [], "hold": None}


@dataclass(frozen=True, slots=True)
class Shadow:
    """A generation that a job builds."""

    place: Place
    job: str


class PointerStore:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows = database[COLLECTION]

    async def read(self, session: Session | None = None) -> tuple[Pointer, list[Shadow]]:
        row = await self._rows.find_one({"_id": POINTER}, session=session)
        return pointer_of(row), [_shadow(each) for each in row["shadows"]] if row else []

    async def begin(self, versions: Mapping[str, int], job: str, session: Session) -> dict[str, Place]:
        """Give each of these projections a new generation, which the job builds."""
        row = await self._rows.find_one_and_update(
            {"_id": POINTER}, {"$inc": {"next": len(versions)}}, session=session
        )
        places = {
            name: Place(name, version, row["next"] + n) for n, (name, version) in enumerate(versions.items())
        }
        common = {"job": job, "follows": False}
        shadows = [
            {"projection": p.projection, "version": p.version, "generation": p.generation, **common}
            for p in places.values()
        ]
        await self._rows.update_one(
            {"_id": POINTER}, {"$push": {"shadows": {"$each": shadows}}}, session=session
        )
        return places

    async def hold(self, job: str, session: Session) -> bool:
        """Make consumers wait for this job; False while they wait for another."""
        until = {"$add": ["$$NOW", HOLD_MILLISECONDS]}
        free = {"$or": [{"hold": None}, {"$expr": {"$lt": ["$hold.until", "$$NOW"]}}, {"hold.job": job}]}
        result = await self._rows.update_one(
            {"_id": POINTER, **free}, [{"$set": {"hold": {"job": job, "until": until}}}], session=session
        )
        return bool(result.matched_count)

    async def swap(self, job: str, places: Sequence[Place], now: datetime, session: Session) -> bool:
        """Make these generations live and let consumers go on; False when they did not wait so long."""
        live = {
            f"live.{p.projection}": {"version": p.version, "generation": p.generation, "since": now}
            for p in places
        }
        before, _ = await self.read(session)
        retired = [
            {"projection": old.projection, "generation": old.generation, "at": now}
            for p in places
            if (old := before.place(p.projection))
        ]
        return await self._let_go(
            job,
            {
                "$set": {**live, "hold": None},
                "$pull": {"shadows": {"job": job}},
                "$push": {"retired": {"$each": retired}},
            },
            session,
        )

    async def follow(self, job: str, session: Session) -> bool:
        """Make consumers write the job's generations too and let them go on; False when they did not wait so
        long."""
        change = {"$set": {"shadows.$[own].follows": True, "hold": None}}
        return await self._let_go(job, change, session, array_filters=[{"own.job": job}])

    async def _let_go(self, job: str, change: Document, session: Session, **options: Any) -> bool:
        held = {"hold.job": job, "$expr": {"$gt": ["$hold.until", "$$NOW"]}}
        result = await self._rows.update_one({"_id": POINTER, **held}, change, session=session, **options)
        return bool(result.matched_count)

    async def abandon(self, job: str, session: Session | None = None) -> None:
        """Give up the generations that a job builds."""
        await self._rows.update_one({"_id": POINTER}, {"$pull": {"shadows": {"job": job}}}, session=session)
        await self._rows.update_one(
            {"_id": POINTER, "hold.job": job}, {"$set": {"hold": None}}, session=session
        )

    # -- collections -----------------------------------------------------------------------------------------

    async def sweep(self, now: datetime, keep: timedelta) -> list[str]:
        """Drop the collections of generations that nobody uses any more; answers their names. Those replaced
        are kept for a while: a query that has read the pointer before may still read them."""
        there = await self._database.list_collection_names()
        row = await self._rows.find_one({"_id": POINTER})
        if row is None:
            return []
        over = [each for each in row["retired"] if each["at"] + keep < now]
        kept = {(name, at["generation"]) for name, at in row["live"].items()}
        kept |= {(s["projection"], s["generation"]) for s in row["shadows"]}
        kept |= {(r["projection"], r["generation"]) for r in row["retired"] if r not in over}
        dropped = [name for name in there if (at := _generation(name)) and at not in kept]
        # The first generation's facts have the projection's own name; its counters are shared.
        first = {r["projection"] for r in over if r["generation"] == 0 and r["projection"] in FIRST}
        dropped += [name for name in there if name in first]
        for name in dropped:
            await self._database.drop_collection(name)
            if name in first:  # a process of the first release may still write to it
                await create_facts(self._database, name, levels=name == "units")
        if over:
            await self._rows.update_one({"_id": POINTER}, {"$pull": {"retired": {"$in": over}}})
        return dropped

    async def compare(
        self, live: Place, replayed: Place, what: str, has: Has, after: str, size: int, session: Session
    ) -> tuple[list[Document], int, str | None]:
        """Compare one collection of two generations, in the session's snapshot, from the key after `after`.
        `has` tells which counters are the projection's, where several share a collection.

        Answers the differences `{key, live, replayed}`, how many keys were compared, and the last of them;
        None at the end.
        """
        sides = [await self._page(place, what, has, after, size, session) for place in (live, replayed)]
        full = [max(keys) for keys, more in sides if more]
        bound = min(full) if full else None
        keys = sorted({key for keys, _ in sides for key in keys if bound is None or key <= bound})
        differences: list[Document] = []
        for key in keys:
            ours, theirs = (keys.get(key, {}) for keys, _ in sides)
            differences += (
                _difference(what, key, name, ours.get(name), theirs.get(name))
                for name in sorted(ours.keys() | theirs.keys())
                if ours.get(name) != theirs.get(name)
            )
        return differences, len(keys), bound

    async def _page(
        self, place: Place, what: str, has: Has, after: str, size: int, session: Session
    ) -> tuple[dict[str, dict[str, Any]], bool]:
        """The next keys with their values, summed over slots, and whether more follow."""
        query = {"_id": {"$gt": f"{after}$" if after and what in _SLOTTED else after}}
        pages = self._database[place.named(what)].find(query, session=session)
        rows = await pages.sort("_id", 1).limit(size).to_list(None)
        found: dict[str, dict[str, Any]] = {}
        for row in rows:
            if what not in _SLOTTED:
                found[row["_id"]] = {name: v for name, v in row.items() if name not in _BOOKKEEPING}
                continue
            sums = found.setdefault(row["_id"].rpartition("#")[0], {})
            for name, n in _numbers(row):
                if not place.is_shared or has(name):
                    sums[name] = sums.get(name, 0) + n
        more = len(rows) == size
        if more and what in _SLOTTED and len(found) > 1:
            found.popitem()  # its other slots may be on the next page
        if what in _SLOTTED:
            found = {key: {n: v for n, v in values.items() if v} for key, values in found.items()}
        return found, more


def _numbers(row: Document) -> list[tuple[str, int]]:
    """The counts of a slot, by name; of a month the days' counts, without what follows of others."""
    numbers: list[tuple[str, int]] = []

    def walk(values: Mapping[str, Any], prefix: str) -> None:
        for key, value in values.items():
            if isinstance(value, Mapping):
                walk(value, f"{prefix}{key}.")
            elif not any(flag in prefix for flag in FLAGS):
                numbers.append((f"{prefix}{key}", value))

    walk(row["days"] if "days" in row else row.get("values", {}), "")
    return numbers


def _difference(what: str, key: str, name: str, live: Any, replayed: Any) -> Document:
    """One difference. Values of facts are left out: they describe one member."""
    if what == "facts":
        return {"collection": what, "key": key, "field": name}
    return {"collection": what, "key": key, "field": name, "live": live or 0, "replayed": replayed or 0}


def _generation(name: str) -> tuple[str, int] | None:
    match = _GENERATION.fullmatch(name)
    return (match["projection"], int(match["generation"])) if match else None


def _shadow(row: Mapping[str, Any]) -> Shadow:
    return Shadow(Place(row["projection"], row["version"], row["generation"]), row["job"])
