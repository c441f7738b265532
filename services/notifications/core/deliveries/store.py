"""`deliveries {_id: reference, ...DeliveryRecord}`, kept for 90 days after the last change."""

from __future__ import annotations

from collections.abc import Collection as Many
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Final

import structlog
from pymongo import ASCENDING, IndexModel, ReplaceOne, UpdateOne
from pymongo.errors import BulkWriteError

from services.notifications.core.deliveries.record import DeliveryRecord
from services.notifications.core.updates import Delivery
from services.shared.database import Codec, Collection, Database, Document, Migration, Session, create

log = structlog.get_logger(__name__)

DELIVERIES: Final = "deliveries"
KEPT: Final = timedelta(days=90)
_CODEC: Final = Codec(
    DeliveryRecord, id_field="id", omit_none=[f.name for f in fields(DeliveryRecord) if f.default is None]
)
_TEXTS: Final = ("notification_id", "member_id", "unit", "channel", "sender", "account", "sent_from")
_DUPLICATE: Final = 11000


class DeliveryStore:
    def __init__(self, database: Database) -> None:
        self._deliveries: Collection = database[DELIVERIES]

    async def begin(self, records: Sequence[DeliveryRecord]) -> None:
        """Write the records of messages that are about to be handed over. One that is there is of a handing
        over that the gateway has surely not taken: it begins again."""
        writes = [ReplaceOne({"_id": r.id}, _CODEC.encode(r), upsert=True) for r in records]
        await self._deliveries.bulk_write(writes, ordered=False)

    async def taken(
        self, provider_ids: Mapping[str, str | None], poll_at: datetime | None, now: datetime
    ) -> None:
        """The gateway took these, by reference. A callback may have been faster."""
        writes = []
        for reference, provider_id in provider_ids.items():
            changed: Document = {"changed_at": now, **({"provider_id": provider_id} if provider_id else {})}
            writes.append(UpdateOne({"_id": reference}, {"$set": changed}))
            sent: Document = {"status": Delivery.SENT.value, f"reached.{Delivery.SENT.value}": now}
            if poll_at is not None and provider_id:
                sent["poll_at"] = poll_at
            writes.append(UpdateOne({"_id": reference, "status": Delivery.QUEUED.value}, {"$set": sent}))
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
        found = self._deliveries.find({"_id": {"$in": list(references)}}, session=session)
        return {row["_id"]: _CODEC.decode(row) async for row in found}

    async def by_provider_id(
        self, sender: str, provider_ids: Many[str], session: Session
    ) -> dict[str, DeliveryRecord]:
        """By the provider's id."""
        query = {"sender": sender, "provider_id": {"$in": list(provider_ids)}}
        found = self._deliveries.find(query, session=session)
        return {row["provider_id"]: _CODEC.decode(row) async for row in found}

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

    async def forget(self, member_ids: Many[str], session: Session) -> None:
        await self._deliveries.delete_many({"member_id": {"$in": list(member_ids)}}, session=session)

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
            # by_provider_id; a provider's id is one message's
            IndexModel(
                [("sender", ASCENDING), ("provider_id", ASCENDING)],
                unique=True,
                partialFilterExpression={"provider_id": {"$exists": True}},
            ),
            IndexModel("poll_at", sparse=True),  # due
            IndexModel("member_id"),  # forget
            IndexModel("changed_at", expireAfterSeconds=int(KEPT.total_seconds())),
        ],
    )


MIGRATIONS: Final = (Migration("core-0003", "deliveries", _deliveries),)
