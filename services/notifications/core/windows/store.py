"""`windows {_id: <channel>:<fingerprint>, opened_at}`: when somebody has written last, for two days."""

from __future__ import annotations

from collections.abc import Collection as Many
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from pymongo import IndexModel, UpdateOne

from services.shared.database import Collection, Database, Migration, Session, create

WINDOW: Final = timedelta(hours=24)
"""Opened by a person's own message, by the time that Meta gives of it."""
CLOSED: Final = "window_closed"
"""The error of a text of our own outside the window, in every adapter's table."""
MARGIN: Final = timedelta(minutes=5)
"""So much before its end no text begins its way: it might arrive too late."""


class WindowStore:
    def __init__(self, database: Database) -> None:
        self._windows: Collection = database["windows"]

    async def open(self, written: Mapping[tuple[str, str], datetime], session: Session) -> None:
        """`{(channel, fingerprint): when}`; a later message counts, in whatever order they come."""
        if written:
            writes = [
                UpdateOne({"_id": f"{channel}:{who}"}, {"$max": {"opened_at": at}}, upsert=True)
                for (channel, who), at in written.items()
            ]
            await self._windows.bulk_write(writes, ordered=False, session=session)

    async def close(self, known: Sequence[tuple[str, str, datetime]], session: Session) -> None:
        """For the provider the window was closed when we wrote to these, `(channel, fingerprint, when)`. One
        that was opened since stays open."""
        if known:
            closed = [{"_id": f"{channel}:{who}", "opened_at": {"$lte": at}} for channel, who, at in known]
            await self._windows.delete_many({"$or": closed}, session=session)

    async def opened(self, channel: str, people: Many[str], now: datetime) -> set[str]:
        """The fingerprints of those whose window is open."""
        if not people:
            return set()
        ids = [f"{channel}:{who}" for who in people]
        since = now - WINDOW + MARGIN
        rows = self._windows.find({"_id": {"$in": ids}, "opened_at": {"$gt": since}}, {"_id": 1})
        return {row["_id"].removeprefix(f"{channel}:") async for row in rows}


async def _windows(database: Database) -> None:
    ttl = IndexModel("opened_at", expireAfterSeconds=int(timedelta(days=2).total_seconds()))
    await create(database, "windows", required={"opened_at": {"bsonType": "date"}}, indexes=[ttl])


MIGRATIONS: Final = (Migration("core-0011", "windows of conversations", _windows),)
