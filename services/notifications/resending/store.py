"""Queries for notifications that have failed."""

from __future__ import annotations

from typing import Final

from services.notifications.core.domain import Notification, State
from services.notifications.core.store import NOTIFICATIONS, notification_of
from services.shared.contracts.vocabulary import subtree
from services.shared.database import Collection, Database, Document, Session

MOST_COUNTED: Final = 1_000_000


class FailedStore:
    def __init__(self, database: Database) -> None:
        self._notifications: Collection = database[NOTIFICATIONS]

    async def find(self, id_: str, session: Session | None = None) -> Notification | None:
        row = await self._notifications.find_one({"_id": id_}, session=session)
        return notification_of(row) if row else None

    async def count(self, root: str | None, reason: str, purpose: str | None) -> int:
        """At most a million are counted."""
        return await self._notifications.count_documents(_query(root, reason, purpose), limit=MOST_COUNTED)

    async def page(
        self,
        root: str | None,
        reason: str,
        purpose: str | None,
        after: tuple[str, str] | None,
        limit: int,
        session: Session | None = None,
    ) -> list[Notification]:
        """In the order of (unit, id)."""
        query = _query(root, reason, purpose)
        if after is not None:
            query["$or"] = [{"unit": {"$gt": after[0]}}, {"unit": after[0], "_id": {"$gt": after[1]}}]
        rows = self._notifications.find(query, session=session).sort([("unit", 1), ("_id", 1)]).limit(limit)
        return [notification_of(row) async for row in rows]


def _query(root: str | None, reason: str, purpose: str | None) -> Document:
    query: Document = {"reason": reason, "state": State.FAILED.value}
    if root is not None:
        query["unit"] = subtree(root)
    if purpose is not None:
        query["purpose"] = purpose
    return query
