"""Queries of the tracking routes."""

from __future__ import annotations

from collections.abc import Sequence

from pymongo import ASCENDING

from services.notifications.core.deliveries.store import DELIVERIES
from services.notifications.core.domain import Notification, State
from services.notifications.core.store import NOTIFICATIONS, notification_of
from services.shared.contracts.vocabulary import subtree
from services.shared.database import Collection, Database, Document
from services.shared.encryption import Ciphertext


class TrackingStore:
    def __init__(self, database: Database) -> None:
        self._notifications: Collection = database[NOTIFICATIONS]
        self._recipients: Collection = database["recipients"]
        self._deliveries: Collection = database[DELIVERIES]
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

    async def deliveries(self, member_id: str, limit: int) -> list[Document]:
        """The newest records of what gateways got, and how far it came; kept for 90 days."""
        rows = self._deliveries.find({"member_id": member_id}).sort("created_at", -1).limit(limit)
        return [row async for row in rows]

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
        reason: str | None = None,
    ) -> list[Notification]:
        """In the order of (unit, id): one index serves the subtree of `root`, the state and the cursor; of
        those with a reason, that of reasons. `reason` is also what holds or defers an unfinished one."""
        wanted = {"member_id": member_id, "state": state}
        query: Document = {field: value for field, value in wanted.items() if value is not None}
        if reason is not None and state in (State.FAILED, State.SUPPRESSED):
            query["reason"] = reason
        elif reason is not None:
            waits = [{"reason": reason}, {"open": True, "held_for": reason}]
            query["$and"] = [{"$or": [*waits, {"open": True, "deferred_for": reason}]}]
        if root is not None:
            query["unit"] = subtree(root)
        if after is not None:
            query["$or"] = [{"unit": {"$gt": after[0]}}, {"unit": after[0], "_id": {"$gt": after[1]}}]
        order = [("unit", ASCENDING), ("_id", ASCENDING)]
        rows = await self._notifications.find(query).sort(order).limit(limit).to_list(limit)
        return [notification_of(row) for row in rows]

    async def summary(self, root: str | None) -> list[Document]:
        """How many of the subtree wait, failed or were suppressed, and why: `{_id: {state, reason},
        count}`, with the states `held`, `deferred`, `due`, `failed` and `suppressed`."""
        units: Document = {} if root is None else {"unit": subtree(root)}
        ended: list[Document] = [
            {"$match": {"reason": {"$exists": True}, **units}},
            {"$group": {"_id": {"state": "$state", "reason": "$reason"}, "count": {"$sum": 1}}},
        ]
        why = {"$ifNull": ["$held_for", {"$ifNull": ["$deferred_for", None]}]}
        waiting: list[Document] = [
            {"$match": {"open": True, **units}},
            {
                "$group": {
                    "_id": {
                        "state": {
                            "$switch": {
                                "branches": [
                                    {"case": {"$gt": ["$held_for", None]}, "then": "held"},
                                    {"case": {"$gt": ["$deferred_for", None]}, "then": "deferred"},
                                ],
                                "default": "due",
                            }
                        },
                        "reason": why,
                    },
                    "count": {"$sum": 1},
                }
            },
        ]
        rows = [row async for row in self._notifications.aggregate(waiting)]
        rows += [row async for row in self._notifications.aggregate(ended)]
        return sorted(rows, key=lambda row: (row["_id"]["state"], row["_id"]["reason"] or ""))
