"""The collections of callbacks and of what they told.

    callbacks   {_id: sha256 of source and body, source, media_type, size, sealed?: {body}, received_at,
                due_at?, claim?, tries, applied_at?, buried?, forget_at}
    parked      {_id, sender, provider_id, reference, status, at, code, meaning, error_class, category,
                due_at, tries, give_up_at}
    inbound     {_id: UUIDv5 of sender and its id, kind, channel, at, member_id?, sealed?, forget_at}
    identities  {_id: channel, account and user id, ...Identity}

The body of a callback goes when it has been applied; its id stays for longer than senders repeat it. What is
not applied has `due_at`, except what is buried, which keeps its body for somebody to look at.
"""

from __future__ import annotations

from collections.abc import Collection as Many
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from pymongo import IndexModel, ReplaceOne, UpdateOne
from pymongo.errors import BulkWriteError

from services.notifications.core.domain import Meaning
from services.notifications.core.updates import Delivery, Report
from services.notifications.webhooks.domain import Identity
from services.shared.database import Codec, Collection, Database, Document, Migration, Session, create
from services.shared.encryption import Ciphertext
from services.shared.faults import FaultFamily, classify
from services.shared.ids import new_id

KEEP: Final = timedelta(days=9)
"""WhatsApp repeats a callback for up to seven days (facts of the field, A1)."""
KEEP_INBOUND: Final = timedelta(days=90)
CLAIM_BYTES: Final = 16 * 1024 * 1024
"""Most bytes of bodies in one claim, but for a single one."""
_IDENTITY: Final = Codec(Identity, id_field="id", omit_none=("member_id", "phone", "followed_by"))


class StoredCallback(NamedTuple):
    id: str
    source: str
    media_type: str
    size: int
    sealed: Ciphertext
    received_at: datetime


class Parked(NamedTuple):
    """A report that waits for its message to be known."""

    id: str
    sender: str
    report: Report
    tries: int
    give_up_at: datetime


class Waiting(NamedTuple):
    callbacks: int
    oldest: datetime | None


class Buried(NamedTuple):
    """A callback that was set aside; nothing of its content."""

    id: str
    source: str
    reason: str
    size: int
    received_at: datetime


class CallbackStore:
    def __init__(self, database: Database) -> None:
        self._callbacks: Collection = database["callbacks"]

    async def add(self, received: Sequence[StoredCallback]) -> set[str]:
        """Store those that are not stored yet; their ids."""
        rows = [
            {
                "_id": each.id,
                "source": each.source,
                "media_type": each.media_type,
                "size": each.size,
                "sealed": each.sealed,
                "received_at": each.received_at,
                "due_at": each.received_at,
                "tries": 0,
                "forget_at": each.received_at + KEEP,
            }
            for each in received
        ]
        fresh = {each.id for each in received}
        try:
            await self._callbacks.insert_many(rows, ordered=False)
        except BulkWriteError as error:
            if classify(error) is not FaultFamily.RACE:  # anything but duplicates
                raise
            fresh -= {rows[each["index"]]["_id"] for each in error.details["writeErrors"]}
        return fresh

    async def claim(
        self, sources: Many[str], now: datetime, seconds: float, limit: int
    ) -> tuple[str, list[StoredCallback], int]:
        """Take up to `limit` callbacks of these sources: the claim's id, what was taken, and how many were
        found due. Each is taken by one process, by MongoDB's clock, until it is applied or `seconds` have
        passed."""
        due: Document = {"due_at": {"$lte": now}, "source": {"$in": list(sources)}}
        found = self._callbacks.find(due, {"size": 1}).sort("due_at", 1).limit(limit)
        rows = await found.to_list(limit)
        claim, ids = new_id(), _within(rows, CLAIM_BYTES)
        if not ids:
            return claim, [], 0
        still_due = {"_id": {"$in": ids}, **due, "$expr": {"$lte": ["$due_at", "$$NOW"]}}
        until = {"$add": ["$$NOW", int(seconds * 1000)]}
        taken = {"claim": claim, "due_at": until, "tries": {"$add": ["$tries", 1]}}
        await self._callbacks.update_many(still_due, [{"$set": taken}])
        mine = self._callbacks.find({"_id": {"$in": ids}, "claim": claim}).sort("received_at", 1)
        return claim, [_stored(row) async for row in mine], len(rows)

    async def applied(self, ids: Many[str], claim: str, now: datetime) -> None:
        """Their bodies go."""
        mine = {"_id": {"$in": list(ids)}, "claim": claim}
        gone = dict.fromkeys(("sealed", "due_at", "claim"), "")
        await self._callbacks.update_many(mine, {"$set": {"applied_at": now}, "$unset": gone})

    async def bury(self, ids: Many[str], claim: str, reason: str) -> None:
        mine = {"_id": {"$in": list(ids)}, "claim": claim}
        gone = dict.fromkeys(("due_at", "claim"), "")
        await self._callbacks.update_many(mine, {"$set": {"buried": reason}, "$unset": gone})

    async def put_back(self, claim: str, now: datetime) -> None:
        back: Document = {"$set": {"due_at": now}, "$unset": {"claim": ""}}
        await self._callbacks.update_many({"claim": claim}, back)

    async def dig_up(self, id_: str, now: datetime) -> bool:
        """Have a buried callback applied again; False if it is none."""
        again: Document = {"$set": {"due_at": now}, "$unset": {"buried": ""}}
        result = await self._callbacks.update_one({"_id": id_, "buried": {"$exists": True}}, again)
        return result.matched_count == 1

    async def buried(self, after: str | None, limit: int) -> list[Buried]:
        query: Document = {"buried": {"$exists": True}}
        if after is not None:
            query["_id"] = {"$gt": after}
        rows = await self._callbacks.find(query, {"sealed": 0}).sort("_id", 1).limit(limit).to_list(limit)
        return [Buried(r["_id"], r["source"], r["buried"], r["size"], r["received_at"]) for r in rows]

    async def waiting(self) -> Waiting:
        query = {"due_at": {"$exists": True}}
        oldest = await self._callbacks.find_one(query, {"received_at": 1}, sort=[("received_at", 1)])
        return Waiting(
            await self._callbacks.count_documents(query), oldest["received_at"] if oldest else None
        )


class ParkedStore:
    def __init__(self, database: Database) -> None:
        self._parked: Collection = database["parked"]

    async def add(self, reports: Sequence[Parked], due_at: datetime, session: Session) -> int:
        """Park reports; one that is parked already stays as it is. Answers how many are new."""
        if not reports:
            return 0
        writes = [
            UpdateOne({"_id": p.id}, {"$setOnInsert": _parked_document(p, due_at)}, upsert=True)
            for p in reports
        ]
        result = await self._parked.bulk_write(writes, ordered=False, session=session)
        return int(result.upserted_count)

    async def claim(self, senders: Many[str], now: datetime, seconds: float, limit: int) -> list[Parked]:
        """Take what is to be tried again; what is not settled in `seconds` is due once more."""
        due: Document = {"due_at": {"$lte": now}, "sender": {"$in": list(senders)}}
        found = await self._parked.find(due, {"_id": 1}).sort("due_at", 1).limit(limit).to_list(limit)
        ids = [row["_id"] for row in found]
        if not ids:
            return []
        claim = new_id()
        still_due = {"_id": {"$in": ids}, **due, "$expr": {"$lte": ["$due_at", "$$NOW"]}}
        until = {"$add": ["$$NOW", int(seconds * 1000)]}
        await self._parked.update_many(still_due, [{"$set": {"claim": claim, "due_at": until}}])
        rows = self._parked.find({"_id": {"$in": ids}, "claim": claim})
        return [_parked(row) async for row in rows]

    async def settle(self, settled: Many[str], again: Mapping[str, datetime], session: Session) -> None:
        """Forget those that are settled; look at the others again at their times."""
        if settled:
            await self._parked.delete_many({"_id": {"$in": list(settled)}}, session=session)
        writes = [
            UpdateOne(
                {"_id": id_}, {"$set": {"due_at": due_at}, "$inc": {"tries": 1}, "$unset": {"claim": ""}}
            )
            for id_, due_at in again.items()
        ]
        if writes:
            await self._parked.bulk_write(writes, ordered=False, session=session)

    async def count(self) -> int:
        return await self._parked.estimated_document_count()


class InboundStore:
    """Each message of a person is handled once."""

    def __init__(self, database: Database) -> None:
        self._inbound: Collection = database["inbound"]

    async def known(self, ids: Many[str], session: Session) -> set[str]:
        if not ids:
            return set()
        rows = self._inbound.find({"_id": {"$in": list(ids)}}, {"_id": 1}, session=session)
        return {row["_id"] async for row in rows}

    async def add(self, rows: Sequence[Document], session: Session) -> None:
        if rows:
            await self._inbound.insert_many(rows, session=session)

    async def callers(self, after: str | None, limit: int) -> list[Document]:
        """Missed calls that asked to join, in the order of id."""
        query: Document = {"kind": "join"}
        if after is not None:
            query["_id"] = {"$gt": after}
        return await self._inbound.find(query).sort("_id", 1).limit(limit).to_list(limit)

    async def forget_caller(self, id_: str) -> bool:
        """Forget the number; that the call was handled stays."""
        change = {"$set": {"kind": "joined"}, "$unset": {"sealed": ""}}
        result = await self._inbound.update_one({"_id": id_, "kind": "join"}, change)
        return result.matched_count == 1


class IdentityStore:
    def __init__(self, database: Database) -> None:
        self._identities: Collection = database["identities"]

    async def by_id(self, ids: Many[str], session: Session) -> dict[str, Identity]:
        if not ids:
            return {}
        rows = self._identities.find({"_id": {"$in": list(ids)}}, session=session)
        return {row["_id"]: _IDENTITY.decode(row) async for row in rows}

    async def of_members(self, member_ids: Many[str], session: Session) -> dict[str, list[Identity]]:
        if not member_ids:
            return {}
        found: dict[str, list[Identity]] = {}
        rows = self._identities.find({"member_id": {"$in": list(member_ids)}}, session=session)
        async for row in rows:
            found.setdefault(row["member_id"], []).append(_IDENTITY.decode(row))
        return found

    async def save(self, identities: Sequence[Identity], session: Session) -> None:
        if identities:
            writes = [ReplaceOne({"_id": i.id}, _IDENTITY.encode(i), upsert=True) for i in identities]
            await self._identities.bulk_write(writes, ordered=False, session=session)


def _within(rows: Sequence[Document], most: int) -> list[str]:
    ids: list[str] = []
    for row in rows:
        most -= row["size"]
        if ids and most < 0:
            break
        ids.append(row["_id"])
    return ids


def _stored(row: Document) -> StoredCallback:
    names = ("_id", "source", "media_type", "size", "sealed", "received_at")
    return StoredCallback(*(row[name] for name in names))


def _parked_document(parked: Parked, due_at: datetime) -> Document:
    report = parked.report
    return {
        "sender": parked.sender,
        "provider_id": report.provider_id,
        "reference": report.reference,
        "status": report.status.value,
        "at": report.at,
        "code": report.code,
        "meaning": report.meaning and report.meaning.value,
        "error_class": report.error_class,
        "category": report.category,
        "due_at": due_at,
        "tries": parked.tries,
        "give_up_at": parked.give_up_at,
    }


def _parked(row: Document) -> Parked:
    report = Report(
        provider_id=row["provider_id"],
        reference=row["reference"],
        status=Delivery(row["status"]),
        at=row["at"],
        code=row["code"],
        meaning=row["meaning"] and Meaning(row["meaning"]),
        error_class=row["error_class"],
        category=row["category"],
    )
    return Parked(row["_id"], row["sender"], report, row["tries"], row["give_up_at"])


_TEXT: Final[Document] = {"bsonType": "string"}
_DATE: Final[Document] = {"bsonType": "date"}


async def _collections(database: Database) -> None:
    forget = IndexModel("forget_at", expireAfterSeconds=0)
    await create(
        database,
        "callbacks",
        required={"source": _TEXT, "received_at": _DATE, "forget_at": _DATE},
        indexes=[
            # claim, waiting: only what is not applied has the field.
            IndexModel("due_at", sparse=True),
            # applied, bury, put_back
            IndexModel("claim", sparse=True),
            # buried
            IndexModel([("buried", 1), ("_id", 1)], sparse=True),
            forget,
        ],
    )
    await create(
        database, "parked", required={"sender": _TEXT, "status": _TEXT}, indexes=[IndexModel("due_at")]
    )
    await create(
        database,
        "inbound",
        required={"kind": _TEXT, "channel": _TEXT, "at": _DATE, "forget_at": _DATE},
        # by member: an erasure; by kind: callers
        indexes=[IndexModel("member_id", sparse=True), IndexModel([("kind", 1), ("_id", 1)]), forget],
    )
    await create(
        database,
        "identities",
        required={"channel": _TEXT, "user_id": _TEXT, "at": _DATE},
        # of_members, and an erasure
        indexes=[IndexModel("member_id", sparse=True)],
    )


MIGRATIONS: Final = (Migration("webhooks-0001", "callbacks, parked, inbound, identities", _collections),)
