"""The default sender: keeps what it would have sent, sealed, and sends nothing to anybody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pymongo import UpdateOne

from services.notifications.domain import Outcome, OutcomeClass
from services.notifications.senders.base import Message
from services.shared.clock import Clock
from services.shared.database import Database
from services.shared.encryption import Vault

COLLECTION: Final = "recorded_messages"


class RecordingSender:
    """`recorded_messages {_id: notification id, member_id, channel, language, sealed: {address, text}, at}`."""

    name: Final = "recording"

    def __init__(self, database: Database, vault: Vault, clock: Clock) -> None:
        self._messages = database[COLLECTION]
        self._vault = vault
        self._clock = clock

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        if not messages:
            return []
        sealed = await self._vault.seal((m.id, {"address": m.address, "text": m.text}) for m in messages)
        now = self._clock.now()
        # Only inserts: a message that is here already was sent, so a repeat changes nothing.
        writes = [
            UpdateOne(
                {"_id": m.id},
                {
                    "$setOnInsert": {
                        "member_id": m.member_id,
                        "channel": m.channel,
                        "language": m.language,
                        "sealed": secret,
                        "at": now,
                    }
                },
                upsert=True,
            )
            for m, secret in zip(messages, sealed, strict=True)
        ]
        await self._messages.bulk_write(writes, ordered=False)
        return [Outcome(OutcomeClass.SENT)] * len(messages)
