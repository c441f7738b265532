"""The dispatcher's queries: the queue of due notifications."""

from __future__ import annotations

from collections.abc import Collection as Many
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import structlog
from pymongo import IndexModel, ReturnDocument, UpdateOne
from pymongo.errors import OperationFailure

from services.notifications.core.domain import Handed, Notification, State
from services.notifications.core.store import NOTIFICATIONS, notification_of
from services.shared.database import Codec, Collection, Database, Document, Migration, Session, create
from services.shared.ids import new_id

log = structlog.get_logger(__name__)

CONTACTS: Final = "contacts"
"""The cache of release 0.1.0; its processes may run beside this one."""
RATES: Final = "rates"
PAIRS: Final = "pairs"
_OTHER_OPTIONS: Final = 85
"""IndexOptionsConflict (MongoDB, error_codes.yml)."""

_HANDED: Final = Codec(Handed)


class QueueStore:
    """Which notifications are due, and who has claimed them."""

    def __init__(self, database: Database) -> None:
        self._notifications: Collection = database[NOTIFICATIONS]

    async def claim(self, now: datetime, seconds: float, limit: int) -> tuple[str, list[Notification], int]:
        """Take up to `limit` notifications that are due at `now`: the claim's id, what was taken, and how
        many were found.

        Each document's own update is atomic and checks by MongoDB's clock whether it is due, so two replicas
        never get the same one, whatever `now` each of them believes in. A claim that was not concluded after
        `seconds`, by the same clock, makes its notifications due again.
        """
        due: Document = {"due_at": {"$lte": now}}
        rows = await self._notifications.find(due, {"_id": 1}).sort("due_at", 1).limit(limit).to_list(limit)
        claim, ids = new_id(), [row["_id"] for row in rows]
        if not ids:
            return claim, [], 0
        still_due = {"_id": {"$in": ids}, **due, "$expr": {"$lte": ["$due_at", "$$NOW"]}}
        until = {"$add": ["$$NOW", int(seconds * 1000)]}
        taken = {"state": State.SENDING.value, "claim": claim, "due_at": until, "updated_at": "$$NOW"}
        await self._notifications.update_many(still_due, [{"$set": taken}])
        mine = self._notifications.find({"_id": {"$in": ids}, "claim": claim})
        return claim, _readable([row async for row in mine]), len(ids)

    async def claimed(self, ids: Many[str], claim: str, session: Session) -> list[Notification]:
        """Find those that `claim` still holds: after it ran out, another process may have claimed them."""
        found = self._notifications.find({"_id": {"$in": list(ids)}, "claim": claim}, session=session)
        return [notification_of(row) async for row in found]

    async def mark(self, claim: str, handed: Mapping[str, Handed]) -> set[str]:
        """Write, before a gateway is called, that it gets these; which of them `claim` still holds. Only
        those may be handed over: another process may have claimed the others."""
        writes = [
            UpdateOne(
                {
                    "_id": id_,
                    "claim": claim,
                    "handed": {"$exists": False},
                    "$expr": {"$gt": ["$due_at", "$$NOW"]},
                },
                {"$set": {"handed": _HANDED.encode(each)}},
            )
            for id_, each in handed.items()
        ]
        await self._notifications.bulk_write(writes, ordered=False)
        marked = {"_id": {"$in": list(handed)}, "claim": claim, "handed": {"$exists": True}}
        return {row["_id"] async for row in self._notifications.find(marked, {"_id": 1})}

    async def set_aside(self, id_: str, claim: str, reason: str, now: datetime) -> None:
        """End a notification whose result cannot be recorded, without the event that would tell of it."""
        ended = {"state": State.FAILED.value, "reason": reason, "updated_at": now}
        gone = dict.fromkeys(("claim", "due_at", "held_for", "stop", "open", "handed"), "")
        await self._notifications.update_one({"_id": id_, "claim": claim}, {"$set": ended, "$unset": gone})

    async def held(self) -> dict[str, tuple[int, datetime]]:
        """Unfinished notifications by what holds or defers them (or `nothing`): how many, and when the oldest
        was queued."""
        held_for = {"$ifNull": ["$held_for", {"$ifNull": ["$deferred_for", "nothing"]}]}
        pipeline: list[Document] = [
            {"$match": {"open": True}},
            {"$group": {"_id": held_for, "count": {"$sum": 1}, "oldest": {"$min": "$created_at"}}},
        ]
        return {
            row["_id"]: (row["count"], row["oldest"]) async for row in self._notifications.aggregate(pipeline)
        }


class BucketStore:
    """Token buckets: `rates {_id: sender:number, tokens, at}`, by MongoDB's clock."""

    def __init__(self, database: Database) -> None:
        self._buckets: Collection = database[RATES]

    async def take(self, bucket: str, wanted: int, rate: float, burst: float) -> int:
        """Take up to `wanted` tokens from a bucket that fills by `rate` a second, up to `burst`; how many
        there were. A new bucket is full."""
        elapsed = {"$divide": [{"$subtract": ["$$NOW", {"$ifNull": ["$at", "$$NOW"]}]}, 1000]}
        filled = {"$add": [{"$ifNull": ["$tokens", burst]}, {"$multiply": [rate, elapsed]}]}
        change: list[Document] = [
            {"$set": {"tokens": {"$min": [burst, filled]}, "at": "$$NOW"}},
            {"$set": {"taken": {"$max": [0, {"$min": [wanted, {"$floor": "$tokens"}]}]}}},
            {"$set": {"tokens": {"$subtract": ["$tokens", "$taken"]}}},
        ]
        row = await self._buckets.find_one_and_update(
            {"_id": bucket}, change, upsert=True, return_document=ReturnDocument.AFTER
        )
        return int(row["taken"])


class PairStore:
    """Recipients who have just got a message from a number, and members about to get one that counts for a
    cap: `pairs {_id: number:fingerprint or member:id, claim, until}`, by MongoDB's clock."""

    def __init__(self, database: Database) -> None:
        self._pairs: Collection = database[PAIRS]

    async def take(self, pairs: Many[str], seconds: float, claim: str | None = None) -> set[str]:
        """Claim these for so long; returns those that nobody held, or only this claim."""
        claim = claim or new_id()
        over = {"$lte": [{"$ifNull": ["$until", "$$NOW"]}, "$$NOW"]}
        free = {"$or": [over, {"$eq": ["$claim", claim]}]}
        until = {"$add": ["$$NOW", int(seconds * 1000)]}
        change: list[Document] = [
            {"$set": {"free": free}},
            {
                "$set": {
                    "claim": {"$cond": ["$free", claim, "$claim"]},
                    "until": {"$cond": ["$free", until, "$until"]},
                }
            },
            {"$unset": "free"},
        ]
        writes = [UpdateOne({"_id": pair}, change, upsert=True) for pair in pairs]
        await self._pairs.bulk_write(writes, ordered=False)
        mine = self._pairs.find({"_id": {"$in": list(pairs)}, "claim": claim}, {"_id": 1})
        return {row["_id"] async for row in mine}

    async def let_go(self, pairs: Many[str], claim: str) -> None:
        await self._pairs.delete_many({"_id": {"$in": list(pairs)}, "claim": claim})

    async def held_until(self, pair: str) -> datetime | None:
        row = await self._pairs.find_one({"_id": pair})
        return row["until"] if row else None


def _readable(rows: list[Document]) -> list[Notification]:
    """One that cannot be read keeps no other waiting: its claim runs out, and it is looked at again."""
    readable: list[Notification] = []
    for row in rows:
        try:
            readable.append(notification_of(row))
        except (ValueError, KeyError, TypeError) as error:
            log.error("dispatch.unreadable", notification=row["_id"], error=type(error).__name__)
    return readable


async def _rates(database: Database) -> None:
    await create(database, RATES, required={"at": {"bsonType": "date"}})


async def _pairs(database: Database) -> None:
    gone = IndexModel("until", expireAfterSeconds=0)
    await create(database, PAIRS, required={"until": {"bsonType": "date"}}, indexes=[gone])


async def _contacts(database: Database) -> None:
    try:
        await _contacts_for_an_hour(database)
    except OperationFailure as error:
        if error.code != _OTHER_OPTIONS:  # else `sending-0002` has run already
            raise


async def _contacts_for_an_hour(database: Database) -> None:
    await create(
        database,
        CONTACTS,
        required={
            "version": {"bsonType": ["int", "long"], "minimum": 0},
            "sealed": {"bsonType": "binData"},
            "at": {"bsonType": "date"},
        },
        indexes=[IndexModel("at", expireAfterSeconds=3600)],
    )


async def _contacts_go(database: Database) -> None:
    """Only processes of release 0.1.0 still cache: their entries live for a minute at most, the period of
    MongoDB's TTL monitor."""
    ttl = {"keyPattern": {"at": 1}, "expireAfterSeconds": 1}
    await database.command("collMod", CONTACTS, index=ttl)


MIGRATIONS: Final = (
    Migration("sending-0001", "cached contacts", _contacts),
    Migration("sending-0002", "contacts are cached no longer", _contacts_go),
    Migration("sending-0003", "rates of gateways", _rates),
    Migration("sending-0004", "pairs of a number and a recipient", _pairs),
)
