"""The default sender: keeps what it would have sent, sealed, and sends nothing to anybody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.notifications.channels.recording.store import RecordedMessageStore
from services.notifications.core.channel import Message
from services.notifications.core.domain import OutcomeClass, SendOutcome
from services.shared.clock import Clock
from services.shared.database import Database
from services.shared.encryption import Vault


class RecordingSender:
    name: Final = "recording"

    def __init__(self, database: Database, vault: Vault, clock: Clock) -> None:
        self._store = RecordedMessageStore(database)
        self._vault = vault
        self._clock = clock

    async def send(self, messages: Sequence[Message]) -> Sequence[SendOutcome]:
        if not messages:
            return []
        sealed = await self._vault.seal((m.id, {"address": m.address, "text": m.text}) for m in messages)
        await self._store.add(zip(messages, sealed, strict=True), self._clock.now())
        return [SendOutcome(OutcomeClass.SENT)] * len(messages)
