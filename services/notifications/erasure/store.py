"""Texts and addresses that the service keeps of a member, in collections of other features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from pymongo import IndexModel

from services.notifications.core.deliveries.store import DeliveryStore
from services.notifications.core.domain import OUTCOME, State
from services.notifications.core.store import NOTIFICATIONS
from services.shared.database import Database, Migration, Session

RECORDED_MESSAGES: Final = "recorded_messages"
CONTACTS: Final = "contacts"
"""The cache of release 0.1.0, whose processes may run beside this one; by member id."""


class ErasureStore:
    def __init__(self, database: Database) -> None:
        self._recorded = database[RECORDED_MESSAGES]
        self._contacts = database[CONTACTS]
        self._deliveries = DeliveryStore(database)
        self._notifications = database[NOTIFICATIONS]

    async def any_being_sent(self, member_ids: Sequence[str], session: Session) -> bool:
        """One whose outcome is unknown, which may be for a day, is not being sent."""
        sending = {"state": State.SENDING.value, "held_for": {"$ne": OUTCOME}}
        query = {"member_id": {"$in": list(member_ids)}, **sending}
        return await self._notifications.find_one(query, {"_id": 1}, session=session) is not None

    async def destroy_messages(self, member_ids: Sequence[str], session: Session) -> Counter[str]:
        """Delete the texts and addresses of messages to these members, and what became of those at their
        providers; how many messages of each."""
        query = {"member_id": {"$in": list(member_ids)}}
        rows = self._recorded.find(query, {"member_id": 1}, session=session)
        found = [(row["_id"], row["member_id"]) async for row in rows]
        await self._recorded.delete_many({"_id": {"$in": [id_ for id_, _ in found]}}, session=session)
        await self._deliveries.forget(member_ids, session)
        await self._contacts.delete_many({"_id": {"$in": list(member_ids)}}, session=session)
        return Counter(member_id for _, member_id in found)


async def _by_member(database: Database) -> None:
    await database[RECORDED_MESSAGES].create_indexes([IndexModel("member_id")])


MIGRATIONS: Final = (Migration("erasure-0001", "recorded messages by member", _by_member),)
