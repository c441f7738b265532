"""The inbox: ids of applied events, written in the same transaction as the effect."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from services.shared.database import Collection, Database, Session

RETENTION = timedelta(days=14)
"""Lifetime of an id. No duplicate arrives later: not from a zombie's batch, a replayed letter or a restored
broker."""


class Inbox:
    def __init__(self, database: Database) -> None:
        self._seen: Collection = database["inbox"]

    async def seen(self, ids: Sequence[str], session: Session | None = None) -> set[str]:
        """The ids among `ids` that are already applied."""
        found = self._seen.find({"_id": {"$in": list(ids)}}, {"_id": 1}, session=session)
        return {row["_id"] async for row in found}

    async def add(self, ids: Sequence[str], at: datetime, session: Session) -> None:
        """Raises: `BulkWriteError` (duplicate key) when another process has applied one of the events."""
        if ids:
            await self._seen.insert_many([{"_id": i, "at": at} for i in ids], session=session)

    async def forget(self, ids: Sequence[str], session: Session) -> None:
        """Delete ids, so that dead-lettered events can be applied."""
        await self._seen.delete_many({"_id": {"$in": list(ids)}}, session=session)
