"""The pairs, and how far the members have been looked through.

`duplicates`: `Pair` with `key` (both ids, the lower first; unique) and `within` (the units whose subtrees
contain both, and `*`), by which lists find it. No name and no number: those are the members' own.
`duplicates_progress`: one document, `{changed: members changed until then were looked at, moved_at}`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from pymongo import IndexModel, UpdateOne

from services.members.core.domain import Member, Status
from services.members.core.store import record_of
from services.members.duplicates.domain import Person, Suspicion, common_units
from services.shared.contracts.vocabulary import LEVELS, depth_of, subtree
from services.shared.database import Codec, Collection, Database, Document, Migration, create
from services.shared.identity import ALL_UNITS
from services.shared.ids import new_id

CHUNK: Final = 1000
"""Pairs that are written or deleted at once."""
COMPARED: Final = 200
"""Members with the same given name nearby that one is compared with: however many there are, a look ends."""
_READ: Final = {"words": 1, "keys": 1, "unit": 1, "gender": 1, "birth_year": 1, "status": 1, "phone_index": 1}
_KNOWN: Final = {"key": 1, "score": 1, "reasons": 1, "within": 1}
_PROGRESS: Final = "members"


class State:
    OPEN = "open"
    DISMISSED = "dismissed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two members who may be one person. `by` is the subject who dismissed it."""

    id: str
    members: tuple[str, ...]
    state: str
    score: float
    reasons: tuple[str, ...]
    found_at: datetime
    by: str | None = None
    dismissed_at: datetime | None = None


class Changed(NamedTuple):
    """A member who changed; `key` is how the given name sounds."""

    person: Person
    status: str
    key: str | None


class Found(NamedTuple):
    one: Person
    other: Person
    suspicion: Suspicion


_PAIR: Final = Codec(Pair, id_field="id", omit_none=("by", "dismissed_at"))


class DuplicateStore:
    def __init__(self, database: Database) -> None:
        self._members: Collection = database["members"]
        self._pairs: Collection = database["duplicates"]
        self._progress: Collection = database["duplicates_progress"]

    async def changed(self, since: datetime | None, until: datetime, limit: int) -> tuple[list[Changed], Any]:
        """About `limit` members changed after `since` and by `until`, in that order, and when the last one
        was: all who changed at one instant, such as a page of an import, come together."""
        times: Document = {"$lte": until} | ({"$gt": since} if since else {})
        rows = await self._changed({"updated_at": times}).limit(limit).to_list(limit)
        if not rows:
            return [], None
        last = rows[-1]["updated_at"]
        if len(rows) == limit:
            same = await self._changed({"updated_at": last}).to_list(None)
            rows = [*(row for row in rows if row["updated_at"] != last), *same]
        return [_changed(row) for row in rows], last

    def _changed(self, query: Document) -> Any:
        rows = self._members.find(query, {**_READ, "updated_at": 1})
        return rows.hint([("updated_at", 1)]).sort("updated_at", 1)

    async def sounding(self, keys: Sequence[str], near: str) -> dict[str, list[Person]]:
        """By key: active members of the neighbourhood whose names have a word that sounds so, about
        `COMPARED` of them for each key."""
        if not keys:
            return {}
        most = (COMPARED + 1) * len(keys)
        query = {"keys": {"$in": keys}, "unit": _around(near), "status": Status.ACTIVE.value}
        rows = (
            await self._members.find(query, _READ).hint([("keys", 1), ("unit", 1)]).limit(most).to_list(most)
        )
        if len(rows) == most and len(keys) > 1:
            # A common name may have taken the places of the others.
            return {
                key: people for each in keys for key, people in (await self.sounding([each], near)).items()
            }
        sounding: dict[str, list[Person]] = {key: [] for key in keys}
        for row in rows:
            for key in sounding.keys() & row["keys"]:
                sounding[key].append(_person(row))
        return sounding

    async def with_phones(self, phones: Sequence[str], status: Status) -> dict[str, list[Person]]:
        """Members of that status who have one of these phones, or had it when they left; by phone."""
        found: dict[str, list[Person]] = {}
        if phones:
            most = COMPARED * len(phones)
            query = {"phone_index": {"$in": list(phones)}, "status": status.value}
            for row in await self._members.find(query, _READ).limit(most).to_list(most):
                found.setdefault(row["phone_index"], []).append(_person(row))
        return found

    async def known(self, looked_at: Sequence[str]) -> dict[str, Document]:
        """The pairs of these members, by `key_of`."""
        rows = self._pairs.find({"members": {"$in": list(looked_at)}}, _KNOWN)
        return {row["key"]: row async for row in rows}

    async def save(
        self, known: Mapping[str, Document], found: Iterable[Found], suspected: Container[str], now: datetime
    ) -> None:
        """Write what was found of some members, and delete those of their `known` pairs that are not
        `suspected` any more. A pair that was dismissed stays so."""
        writes = [_write(each, now) for each in found if _is_news(each, known)]
        for first in range(0, len(writes), CHUNK):
            await self._pairs.bulk_write(writes[first : first + CHUNK], ordered=False)
        gone = [row["_id"] for key, row in known.items() if key not in suspected]
        for first in range(0, len(gone), CHUNK):
            some = {"$in": gone[first : first + CHUNK]}
            await self._pairs.delete_many({"_id": some, "state": State.OPEN})

    async def looked_until(self) -> tuple[datetime | None, datetime | None]:
        """Until when members' changes were looked at, and when that was last moved on."""
        row = await self._progress.find_one({"_id": _PROGRESS}) or {}
        return row.get("changed"), row.get("moved_at")

    async def look_on(self, changed: datetime, now: datetime) -> None:
        change = {"$max": {"changed": changed}, "$set": {"moved_at": now}}
        await self._progress.update_one({"_id": _PROGRESS}, change, upsert=True)

    async def waiting(self, since: datetime | None, until: datetime) -> bool:
        """Whether a member who changed after `since` and by `until` waits to be looked at."""
        times: Document = {"$lte": until} | ({"$gt": since} if since else {})
        return await self._members.find_one({"updated_at": times}, {"_id": 1}) is not None

    async def page(self, root: str | None, state: str, after: str | None, limit: int) -> list[Pair]:
        """At most `limit` pairs in the subtree after the id `after`, by id."""
        query: Document = {"within": root or ALL_UNITS, "state": state}
        if after is not None:
            query["_id"] = {"$gt": after}
        rows = self._pairs.find(query).sort("_id", 1).limit(limit)
        return [_PAIR.decode(row) for row in await rows.to_list(limit)]

    async def find(self, pair_id: str) -> Pair | None:
        row = await self._pairs.find_one({"_id": pair_id})
        return _PAIR.decode(row) if row else None

    async def dismiss(self, pair_id: str, by: str, now: datetime) -> None:
        """For good; the first one who does it is recorded."""
        change = {"$set": {"state": State.DISMISSED, "by": by, "dismissed_at": now}}
        await self._pairs.update_one({"_id": pair_id, "state": State.OPEN}, change)

    async def people(self, ids: Iterable[str]) -> dict[str, Member]:
        rows = self._members.find({"_id": {"$in": list(ids)}})
        return {row["_id"]: record_of(row).member async for row in rows}

    async def open(self) -> int:
        return await self._pairs.count_documents({"within": ALL_UNITS, "state": State.OPEN})


def _around(near: str) -> Any:
    """The units of a neighbourhood: a block with its booths, or the unit alone."""
    return subtree(near) if depth_of(near) >= len(LEVELS) - 1 else near


def _changed(row: Document) -> Changed:
    keys = row.get("keys", ())
    return Changed(_person(row), row["status"], keys[0] if keys else None)


def _person(row: Document) -> Person:
    return Person(
        id=row["_id"],
        words=tuple(row.get("words", ())),
        unit=row["unit"],
        gender=row["gender"],
        birth_year=row.get("birth_year"),
        phone=row["phone_index"],
    )


def key_of(one: Person, other: Person) -> str:
    """The key of a pair, whoever of the two comes first."""
    return _key(one.id, other.id)


def _key(one: str, other: str) -> str:
    return ":".join(sorted((one, other)))


def _is_news(found: Found, known: Mapping[str, Document]) -> bool:
    row = known.get(_key(found.one.id, found.other.id))
    return row is None or any(row[name] != value for name, value in _fields(found).items())


def _fields(found: Found) -> Document:
    """The fields of a pair that a look may change."""
    one, other, suspicion = found
    return {
        "score": suspicion.score,
        "reasons": [reason.value for reason in suspicion.reasons],
        "within": [ALL_UNITS, *common_units(one.unit, other.unit)],
    }


def _write(found: Found, now: datetime) -> UpdateOne:
    ids = sorted((found.one.id, found.other.id))
    return UpdateOne(
        {"key": _key(*ids)},
        {
            "$set": _fields(found),
            "$setOnInsert": {
                "_id": new_id(),
                "members": ids,
                "state": State.OPEN,
                "found_at": now,
            },
        },
        upsert=True,
    )


async def _create(database: Database) -> None:
    await create(
        database,
        "duplicates",
        required={
            "key": {"bsonType": "string"},
            "members": {"bsonType": "array"},
            "state": {"enum": [State.OPEN, State.DISMISSED]},
            "within": {"bsonType": "array"},
        },
        indexes=[
            IndexModel("key", unique=True),
            IndexModel("members"),
            IndexModel([("within", 1), ("state", 1), ("_id", 1)]),
        ],
    )
    await create(database, "duplicates_progress")


MIGRATIONS: Final = (Migration("duplicates-0001", "duplicates, duplicates_progress", _create),)
