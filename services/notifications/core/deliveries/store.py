"""`deliveries {_id: reference, ...DeliveryRecord}`; gone `KEPT` after the last change, for nobody keeps a
diary of what people read."""

from __future__ import annotations

from collections.abc import Collection as Many
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Final

import structlog
from pymongo import ASCENDING, DESCENDING, IndexModel, ReplaceOne, UpdateOne
from pymongo.errors import BulkWriteError

from services.notifications.core.deliveries.domain import DeliveryRecord
from services.notifications.core.updates import Delivery
from services.shared.database import Codec, Collection, Database, Document, Migration, Session, create

log = structlog.get_logger(__name__)

DELIVERIES: Final = "deliveries"
KEPT: Final = timedelta(days=90)
_CODEC: Final = Codec(
    DeliveryRecord, id_field="id", omit_none=[f.name for f in fields(DeliveryRecord) if f.default is None]
)
_TEXTS: Final = (
    "notification_id",
    "member_id",
    "unit",
    "purpose",
    "channel",
    "sender",
    "account",
    "sent_from",
)
_DUPLICATE: Final = 11000


class DeliveryStore:
    def __init__(self, database: Database) -> None:
        self._deliveries: Collection = database[DELIVERIES]

    async def begin(self, records: Sequence[DeliveryRecord]) -> None:
        """Write the records of messages that are about to be handed over. One that is there is of a handing
        over that the gateway has surely not taken: it begins again."""
        rows = [_CODEC.encode(record) for record in records]
        try:
            await self._deliveries.insert_many(rows, ordered=False)
        except BulkWriteError as error:
            failed = error.details["writeErrors"]
            if {each["code"] for each in failed} != {_DUPLICATE}:
                raise
            again = [rows[each["index"]] for each in failed]
            await self._deliveries.bulk_write([ReplaceOne({"_id": row["_id"]}, row) for row in again])

    async def taken(
        self, provider_ids: Mapping[str, str | None], poll_at: datetime | None, now: datetime
    ) -> None:
        """The gateway took these, by reference. A callback may have been faster."""
        queued = {"$eq": ["$status", Delivery.QUEUED.value]}
        sent: Document = {
            name: {"$cond": [queued, value, f"${name}"]}
            for name, value in (("status", Delivery.SENT.value), (f"reached.{Delivery.SENT.value}", now))
        }
        polled = {"poll_at": {"$cond": [queued, poll_at, "$poll_at"]}} if poll_at is not None else {}
        writes = []
        for reference, provider_id in provider_ids.items():
            changed: Document = {"changed_at": now, **sent}
            if provider_id:
                changed |= {"provider_id": {"$literal": provider_id}, **polled}
            writes.append(UpdateOne({"_id": reference}, [{"$set": changed}]))
        await self._write(writes)

    async def refused(self, errors: Mapping[str, tuple[str | None, str | None]], now: datetime) -> None:
        """The gateway refused these, by reference, with an error of ours and a meaning."""
        writes = []
        for reference, (error_class, code) in errors.items():
            failed = {"status": Delivery.FAILED.value, "error_class": error_class, "changed_at": now}
            failed |= {f"reached.{Delivery.FAILED.value}": now} | ({"code": code} if code else {})
            writes.append(UpdateOne({"_id": reference, "status": Delivery.QUEUED.value}, {"$set": failed}))
        await self._write(writes)

    async def by_reference(
        self, references: Many[str], session: Session | None = None
    ) -> dict[str, DeliveryRecord]:
        if not references:
            return {}
        return {r.id: r for r in await self._find({"_id": {"$in": list(references)}}, session)}

    async def of_notification(self, notification_id: str, session: Session) -> list[DeliveryRecord]:
        """Each handing over of it, the first one first."""
        one = {"_id": {"$gt": f"{notification_id}.", "$lt": f"{notification_id}/"}}
        return sorted(await self._find(one, session), key=lambda record: record.number)

    async def by_provider_id(
        self, named: Iterable[tuple[str, str]], session: Session | None = None
    ) -> dict[tuple[str, str], DeliveryRecord]:
        """By `(sender, provider_id)`."""
        by_sender: dict[str, list[str]] = {}
        for sender, provider_id in named:
            by_sender.setdefault(sender, []).append(provider_id)
        found: dict[tuple[str, str], DeliveryRecord] = {}
        for sender, ids in by_sender.items():
            for each in await self._find({"sender": sender, "provider_id": {"$in": ids}}, session):
                assert each.provider_id is not None
                found[sender, each.provider_id] = each
        return found

    async def newest_to(self, to: Many[str], session: Session | None = None) -> dict[str, DeliveryRecord]:
        """The newest record for each address, by its fingerprint, whatever the channel."""
        if not to:
            return {}
        pipeline: list[Document] = [
            {"$match": {"to": {"$in": list(to)}}},
            {"$sort": {"to": 1, "created_at": -1}},
            {"$group": {"_id": "$to", "newest": {"$first": "$$ROOT"}}},
        ]
        rows = self._deliveries.aggregate(pipeline, session=session)
        return {row["_id"]: _CODEC.decode(row["newest"]) async for row in rows}

    async def save(self, records: Sequence[DeliveryRecord], session: Session) -> None:
        if records:
            writes = [ReplaceOne({"_id": r.id}, _CODEC.encode(r)) for r in records]
            await self._deliveries.bulk_write(writes, ordered=False, session=session)

    async def due(self, now: datetime, senders: Many[str], limit: int) -> list[DeliveryRecord]:
        """Find records about which one of `senders` is to be asked now."""
        query = {"poll_at": {"$lte": now}, "sender": {"$in": list(senders)}}
        rows = await self._deliveries.find(query).sort("poll_at", ASCENDING).limit(limit).to_list(limit)
        return [_CODEC.decode(row) for row in rows]

    async def ask(self, asked: DeliveryRecord, due: datetime | None) -> bool:
        """Write that it is being asked about; False if another process does."""
        change: Document = {"$set": {"polls": asked.polls}}
        if asked.poll_at is None:
            change["$unset"] = {"poll_at": ""}
        else:
            change["$set"]["poll_at"] = asked.poll_at
        result = await self._deliveries.update_one({"_id": asked.id, "poll_at": due}, change)
        return bool(result.modified_count)

    async def _find(self, query: Document, session: Session | None) -> list[DeliveryRecord]:
        return [_CODEC.decode(row) async for row in self._deliveries.find(query, session=session)]

    async def _write(self, writes: Sequence[UpdateOne]) -> None:
        """A provider that gives two messages one id loses its id of the second; nothing else."""
        if not writes:
            return
        try:
            await self._deliveries.bulk_write(writes, ordered=False)
        except BulkWriteError as error:
            if {each["code"] for each in error.details.get("writeErrors", ())} != {_DUPLICATE}:
                raise
            log.warning("delivery.provider_id_repeated", count=len(error.details["writeErrors"]))


async def _deliveries(database: Database) -> None:
    required: Document = {
        **{name: {"bsonType": "string"} for name in _TEXTS},
        "status": {"enum": [status.value for status in Delivery]},
        "created_at": {"bsonType": "date"},
        "changed_at": {"bsonType": "date"},
    }
    await create(
        database,
        DELIVERIES,
        required=required,
        indexes=[
            # by_provider_id; unique, so that no report can be about two messages.
            IndexModel(
                [("sender", ASCENDING), ("provider_id", ASCENDING)],
                unique=True,
                partialFilterExpression={"provider_id": {"$exists": True}},
            ),
            IndexModel("poll_at", sparse=True),  # due
            IndexModel([("to", ASCENDING), ("created_at", DESCENDING)]),  # newest_to
            IndexModel("member_id"),  # an erasure
            IndexModel("changed_at", expireAfterSeconds=int(KEPT.total_seconds())),
        ],
    )


MIGRATIONS: Final = (Migration("core-0005", "deliveries", _deliveries),)
