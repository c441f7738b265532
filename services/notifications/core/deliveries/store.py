"""`deliveries {_id, ...DeliveryRecord}`; gone `KEEP` after the last change, for nobody keeps a diary of what
people read."""

from __future__ import annotations

from collections.abc import Collection as Many
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final

from pymongo import DESCENDING, IndexModel, ReplaceOne

from services.notifications.core.deliveries.domain import DeliveryRecord
from services.shared.database import Codec, Collection, Database, Document, Migration, Session, create

DELIVERIES: Final = "deliveries"
KEEP: Final = timedelta(days=90)

_RECORD: Final = Codec(
    DeliveryRecord, id_field="id", omit_none=("to", "provider_id", "code", "error_class", "category")
)


class DeliveryStore:
    def __init__(self, database: Database) -> None:
        self._deliveries: Collection = database[DELIVERIES]

    async def add(self, records: Sequence[DeliveryRecord], session: Session | None = None) -> None:
        if records:
            await self._deliveries.insert_many(map(_RECORD.encode, records), session=session)

    async def save(self, records: Sequence[DeliveryRecord], session: Session) -> None:
        if records:
            writes = [ReplaceOne({"_id": r.id}, _RECORD.encode(r)) for r in records]
            await self._deliveries.bulk_write(writes, ordered=False, session=session)

    async def by_id(self, ids: Many[str], session: Session | None = None) -> dict[str, DeliveryRecord]:
        return {r.id: r for r in await self._find({"_id": {"$in": list(ids)}}, session)} if ids else {}

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
        return {row["_id"]: _RECORD.decode(row["newest"]) async for row in rows}

    async def _find(self, query: Document, session: Session | None) -> list[DeliveryRecord]:
        return [_RECORD.decode(row) async for row in self._deliveries.find(query, session=session)]


_TEXT: Final[Document] = {"bsonType": "string"}
_DATE: Final[Document] = {"bsonType": "date"}


async def _deliveries(database: Database) -> None:
    names = ("notification_id", "member_id", "unit", "channel", "sender", "account", "status")
    required = {**dict.fromkeys(names, _TEXT), "created_at": _DATE, "changed_at": _DATE}
    indexes = [
        # by_provider_id; unique, so that no report can be about two messages.
        IndexModel(
            [("sender", 1), ("provider_id", 1)],
            unique=True,
            partialFilterExpression={"provider_id": {"$exists": True}},
        ),
        # newest_to
        IndexModel([("to", 1), ("created_at", DESCENDING)], sparse=True),
        # an erasure
        IndexModel("member_id"),
        IndexModel("changed_at", expireAfterSeconds=int(KEEP.total_seconds())),
    ]
    await create(database, DELIVERIES, required=required, indexes=indexes)


MIGRATIONS: Final = (Migration("deliveries-0001", "delivery records", _deliveries),)
