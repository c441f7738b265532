"""The dispatcher's queries: the queue of due notifications, and the sealed cache of contacts.

`contacts {_id: member id, version, sealed, at}`
"""

from __future__ import annotations

from collections.abc import Collection as Many
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from pymongo import IndexModel, ReplaceOne

from services.notifications.core.domain import Notification, State
from services.notifications.core.store import NOTIFICATIONS, notification_of
from services.shared.database import Collection, Database, Document, Migration, Session, create
from services.shared.encryption import Ciphertext
from services.shared.ids import new_id

CONTACTS: Final = "contacts"
CONTACTS_LIVE_SECONDS: Final = 3600
"""Contacts are cached for an hour at most. MongoDB removes them within a minute after that (TTL monitor)."""


class QueueStore:
    """Which notifications are due, and who has claimed them."""

    def __init__(self, database: Database) -> None:
        self._notifications: Collection = database[NOTIFICATIONS]

    async def claim(self, now: datetime, until: datetime, limit: int) -> tuple[str, list[Notification], int]:
        """Take up to `limit` due notifications: the claim's id, what was taken, and how many were found due.

        Each document's own update is atomic and checks again whether it is due, so two replicas never get the
        same one. A claim that was not concluded by `until` makes its notifications due again.
        """
        due: Document = {"due_at": {"$lte": now}}
        rows = await self._notifications.find(due, {"_id": 1}).sort("due_at", 1).limit(limit).to_list(limit)
        claim, ids = new_id(), [row["_id"] for row in rows]
        if not ids:
            return claim, [], 0
        taken = {"state": State.SENDING.value, "claim": claim, "due_at": until, "updated_at": now}
        await self._notifications.update_many({"_id": {"$in": ids}, **due}, {"$set": taken})
        mine = self._notifications.find({"_id": {"$in": ids}, "claim": claim})
        return claim, [notification_of(row) async for row in mine], len(ids)

    async def claimed(self, ids: Many[str], claim: str, session: Session) -> list[Notification]:
        """Find those that `claim` still holds: after it ran out, another process may have claimed them."""
        found = self._notifications.find({"_id": {"$in": list(ids)}, "claim": claim}, session=session)
        return [notification_of(row) async for row in found]

    async def held(self) -> dict[str, tuple[int, datetime]]:
        """Unfinished notifications by what holds them: how many, and when the oldest was queued."""
        pipeline: list[Document] = [
            {"$match": {"open": True, "held_for": {"$gt": ""}}},
            {"$group": {"_id": "$held_for", "count": {"$sum": 1}, "oldest": {"$min": "$created_at"}}},
        ]
        return {
            row["_id"]: (row["count"], row["oldest"]) async for row in self._notifications.aggregate(pipeline)
        }


class ContactStore:
    def __init__(self, database: Database) -> None:
        self._contacts: Collection = database[CONTACTS]

    async def find(self, versions: Mapping[str, int], since: datetime) -> dict[str, Ciphertext]:
        """Sealed contacts by member id: those of the given versions that are newer than `since`."""
        found = self._contacts.find({"_id": {"$in": list(versions)}, "at": {"$gt": since}})
        return {row["_id"]: row["sealed"] async for row in found if row["version"] == versions[row["_id"]]}

    async def save(
        self, sealed: Mapping[str, Ciphertext], versions: Mapping[str, int], now: datetime
    ) -> None:
        writes = [
            ReplaceOne({"_id": id_}, {"version": versions[id_], "sealed": secret, "at": now}, upsert=True)
            for id_, secret in sealed.items()
        ]
        await self._contacts.bulk_write(writes, ordered=False)

    async def delete(self, member_ids: Many[str], session: Session) -> None:
        await self._contacts.delete_many({"_id": {"$in": list(member_ids)}}, session=session)


async def _contacts(database: Database) -> None:
    await create(
        database,
        CONTACTS,
        required={
            "version": {"bsonType": ["int", "long"], "minimum": 0},
            "sealed": {"bsonType": "binData"},
            "at": {"bsonType": "date"},
        },
        indexes=[IndexModel("at", expireAfterSeconds=CONTACTS_LIVE_SECONDS)],
    )


MIGRATIONS: Final = (Migration("sending-0001", "cached contacts", _contacts),)
