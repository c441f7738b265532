"""`breakers {_id: sender:kind:subject, sender, kind, subject, code, trips, opened_at, until, probing}`, while
open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final, NamedTuple

from pymongo import IndexModel, ReturnDocument

from services.shared.database import Collection, Database, Document, Migration, create

BREAKERS: Final = "breakers"


@dataclass(frozen=True, slots=True)
class OpenBreaker:
    id: str
    sender: str
    kind: str
    until: datetime
    """When a message may go as a probe."""


class ShownBreaker(NamedTuple):
    """An open breaker as operators see it. `id` stands for its key, which may have any character."""

    id: str
    sender: str
    kind: str
    subject: str
    code: str
    trips: int
    opened_at: datetime
    until: datetime


def key_of(sender: str, kind: str, subject: str) -> str:
    return f"{sender}:{kind}:{subject}"


class BreakerStore:
    """All times are MongoDB's."""

    def __init__(self, database: Database) -> None:
        self._breakers: Collection = database[BREAKERS]

    async def of(self, sender: str) -> dict[str, OpenBreaker]:
        """The open breakers of a sender, by id."""
        rows = self._breakers.find({"sender": sender}, {"kind": 1, "until": 1})
        return {row["_id"]: OpenBreaker(row["_id"], sender, row["kind"], row["until"]) async for row in rows}

    async def open(
        self,
        sender: str,
        kind: str,
        subject: str,
        code: str,
        first: timedelta,
        longest: timedelta,
        until: datetime | None,
    ) -> tuple[bool, datetime]:
        """Open one, or let an open one pause again: only after a probe, or else the many messages that fail
        together would double its pause many times. Returns whether it is new, and until when it pauses."""
        trips = {"$add": [{"$ifNull": ["$trips", 0]}, 1]}
        again = {"$or": [{"$lte": [{"$ifNull": ["$until", "$$NOW"]}, "$$NOW"]}, {"$eq": ["$probing", True]}]}
        doubled = {"$multiply": [_ms(first), {"$pow": [2, {"$min": [{"$subtract": ["$trips", 1]}, 20]}]}]}
        pause = {"$toLong": {"$min": [_ms(longest), doubled]}}
        ends: Document | datetime = {"$add": ["$$NOW", pause]} if until is None else until
        named = {"sender": sender, "kind": kind, "subject": {"$literal": subject}, "code": {"$literal": code}}
        change: list[Document] = [
            {"$set": {"new": {"$eq": [{"$type": "$opened_at"}, "missing"]}, "again": again}},
            {"$set": {**named, "opened_at": {"$ifNull": ["$opened_at", "$$NOW"]}}},
            {"$set": {"trips": {"$cond": ["$again", trips, "$trips"]}}},
            {"$set": {"until": {"$cond": ["$again", ends, "$until"]}, "probing": False}},
            {"$unset": "again"},
        ]
        row = await self._breakers.find_one_and_update(
            {"_id": key_of(sender, kind, subject)}, change, upsert=True, return_document=ReturnDocument.AFTER
        )
        return row["new"], row["until"]

    async def probe(self, id_: str, wait: timedelta) -> bool:
        """Take the right to send a probe; False if another has it, or if it is too early."""
        due = {"_id": id_, "$expr": {"$lte": ["$until", "$$NOW"]}}
        taken: list[Document] = [{"$set": {"until": {"$add": ["$$NOW", _ms(wait)]}, "probing": True}}]
        result = await self._breakers.update_one(due, taken)
        return bool(result.modified_count)

    async def close(self, ids: Sequence[str]) -> list[str]:
        """Returns those that were open."""
        if not ids:
            return []
        closed = [row["_id"] async for row in self._breakers.find({"_id": {"$in": list(ids)}}, {"_id": 1})]
        await self._breakers.delete_many({"_id": {"$in": closed}})
        return closed

    async def shown(self, limit: int) -> list[ShownBreaker]:
        rows = await self._breakers.find({}).sort("_id", 1).limit(limit).to_list(limit)
        names = ShownBreaker._fields[1:]
        return [ShownBreaker(shown_id(row["_id"]), *(row[name] for name in names)) for row in rows]

    async def named(self, shown: str) -> str | None:
        """The key of the open breaker with this `ShownBreaker.id`. There are few."""
        keys = [row["_id"] async for row in self._breakers.find({}, {"_id": 1})]
        return next((key for key in keys if shown_id(key) == shown), None)

    async def count(self) -> dict[tuple[str, str], int]:
        group = {"_id": {"sender": "$sender", "kind": "$kind"}, "count": {"$sum": 1}}
        rows = self._breakers.aggregate([{"$group": group}])
        return {(row["_id"]["sender"], row["_id"]["kind"]): row["count"] async for row in rows}


def shown_id(key: str) -> str:
    return sha256(key.encode()).hexdigest()[:32]


def _ms(time: timedelta) -> int:
    return int(time.total_seconds() * 1000)


async def _breakers(database: Database) -> None:
    required: Document = {
        **{name: {"bsonType": "string"} for name in ("sender", "kind", "subject", "code")},
        "until": {"bsonType": "date"},
    }
    # One that nothing has probed for a day is of something that is used no more.
    await create(
        database, BREAKERS, required=required, indexes=[IndexModel("until", expireAfterSeconds=86_400)]
    )


MIGRATIONS: Final = (Migration("core-0006", "breakers", _breakers),)
