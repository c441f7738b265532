"""Texts and addresses that the service keeps of a member, in collections of other features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from pymongo import IndexModel

from services.notifications.core.domain import OUTCOME, State
from services.notifications.core.store import NOTIFICATIONS
from services.shared.database import Database, Migration, Session

RECORDED_MESSAGES: Final = "recorded_messages"
OF_WEBHOOKS: Final = ("deliveries", "identities", "inbound")
"""How far messages to the member have come, their ids on channels, and what they have written."""
CONTACTS: Final = "contacts"
"""The cache of release 0.1.0, whose processes may run beside this one; by member id."""


class ErasureStore:
    def __init__(self, database: Database) -> None:
        self._recorded = database[RECORDED_MESSAGES]
        self._contacts = database[CONTACTS]
        self._notifications = database[NOTIFICATIONS]
        self._of_webhooks = {name: database[name] for name in OF_WEBHOOKS}
        self._suppressions = database["suppressions"]

    async def any_being_sent(self, member_ids: Sequence[str], session: Session) -> bool:
        """One whose outcome is unknown, which may be for a day, is not being sent."""
        sending = {"state": State.SENDING.value, "held_for": {"$ne": OUTCOME}}
        query = {"member_id": {"$in": list(member_ids)}, **sending}
        return await self._notifications.find_one(query, {"_id": 1}, session=session) is not None

    async def destroy_messages(self, member_ids: Sequence[str], session: Session) -> Counter[str]:
        """Delete the texts and addresses of messages to these members; how many messages of each."""
        query = {"member_id": {"$in": list(member_ids)}}
        rows = self._recorded.find(query, {"member_id": 1}, session=session)
        found = [(row["_id"], row["member_id"]) async for row in rows]
        await self._recorded.delete_many({"_id": {"$in": [id_ for id_, _ in found]}}, session=session)
        await self._contacts.delete_many({"_id": {"$in": list(member_ids)}}, session=session)
        return Counter(member_id for _, member_id in found)

    async def destroy_traces(self, member_ids: Sequence[str], session: Session) -> dict[str, Counter[str]]:
        """Delete what callbacks have told of these members; how many documents of each, by collection. What
        they have stopped stays stopped: the suppression list only forgets whose addresses it has."""
        query = {"member_id": {"$in": list(member_ids)}}
        gone: dict[str, Counter[str]] = {}
        for name, collection in self._of_webhooks.items():
            rows = collection.find(query, {"member_id": 1}, session=session)
            gone[name] = Counter([row["member_id"] async for row in rows])
            if gone[name]:
                await collection.delete_many(query, session=session)
        unlinked = {"$unset": {"member_id": "", "unit": ""}}
        await self._suppressions.update_many(query, unlinked, session=session)
        return gone


async def _by_member(database: Database) -> None:
    await database[RECORDED_MESSAGES].create_indexes([IndexModel("member_id")])


MIGRATIONS: Final = (Migration("erasure-0001", "recorded messages by member", _by_member),)
