"""Queries of the tracking routes."""

from __future__ import annotations

from collections.abc import Sequence

from pymongo import ASCENDING

from services.notifications.core.domain import Notification
from services.notifications.core.store import NOTIFICATIONS, notification_of
from services.shared.contracts.vocabulary import subtree
from services.shared.database import Collection, Database, Document
from services.shared.encryption import Ciphertext


class TrackingStore:
    def __init__(self, database: Database) -> None:
        self._notifications: Collection = database[NOTIFICATIONS]
        self._recipients: Collection = database["recipients"]
        self._recorded: Collection = database["recorded_messages"]

    async def find(self, id_: str) -> Notification | None:
        row = await self._notifications.find_one({"_id": id_})
        return notification_of(row) if row else None

    async def recipient(self, member_id: str) -> Document | None:
        row: Document | None = await self._recipients.find_one({"_id": member_id})
        return row

    async def of_member(self, member_id: str, limit: int) -> tuple[list[Notification], int]:
        """The newest notifications of a member, and how many there are."""
        query = {"member_id": member_id}
        rows = await self._notifications.find(query).sort("created_at", -1).limit(limit).to_list(limit)
        return [notification_of(row) for row in rows], await self._notifications.count_documents(query)

    async def recorded(self, ids: Sequence[str]) -> dict[str, Ciphertext]:
        """Sealed `{address, text}` of those of the notifications whose text was kept."""
        rows = self._recorded.find({"_id": {"$in": list(ids)}}, {"sealed": 1})
        return {row["_id"]: row["sealed"] async for row in rows}

    async def page(
        self,
        root: str | None,
        member_id: str | None,
        state: str | None,
        after: tuple[str, str] | None,
        limit: int,
    ) -> list[Notification]:
        """In the order of (unit, id): one index serves the subtree of `root`, the state and the cursor."""
        wanted = {"member_id": member_id, "state": state}
        query: Document = {field: value for field, value in wanted.items() if value is not None}
        if root is not None:
            query["unit"] = subtree(root)
        if after is not None:
            query["$or"] = [{"unit": {"$gt": after[0]}}, {"unit": after[0], "_id": {"$gt": after[1]}}]
        order = [("unit", ASCENDING), ("_id", ASCENDING)]
        rows = await self._notifications.find(query).sort(order).limit(limit).to_list(limit)
        return [notification_of(row) for row in rows]
