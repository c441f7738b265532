"""`recorded_messages {_id: notification id, member_id, channel, language, sealed: {address, text}, at}`"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from pymongo import UpdateOne

from services.notifications.core.channel import Message
from services.shared.database import Collection, Database, Migration, create
from services.shared.encryption import Ciphertext

RECORDED_MESSAGES: Final = "recorded_messages"


class RecordedMessageStore:
    def __init__(self, database: Database) -> None:
        self._messages: Collection = database[RECORDED_MESSAGES]

    async def add(self, messages: Iterable[tuple[Message, Ciphertext]], now: datetime) -> None:
        """Insert only: a message that is here already was sent, so a repeat changes nothing."""
        writes = [
            UpdateOne(
                {"_id": message.id},
                {
                    "$setOnInsert": {
                        "member_id": message.member_id,
                        "channel": message.channel,
                        "language": message.language,
                        "sealed": sealed,
                        "at": now,
                    }
                },
                upsert=True,
            )
            for message, sealed in messages
        ]
        await self._messages.bulk_write(writes, ordered=False)


async def _recorded_messages(database: Database) -> None:
    required = {
        "member_id": {"bsonType": "string"},
        "sealed": {"bsonType": "binData"},
        "at": {"bsonType": "date"},
    }
    await create(database, RECORDED_MESSAGES, required=required)


MIGRATIONS: Final = (Migration("recording-0001", "recorded messages", _recorded_messages),)
