"""A sender for development: shows each message on standard output, with its address masked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final, TextIO

from services.notifications.core.channel import Message, mask
from services.notifications.core.domain import OutcomeClass, SendOutcome


class ConsoleSender:
    """Prints texts as they are, with names: not for production. `stream` None is standard output."""

    name: Final = "console"

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    async def send(self, messages: Sequence[Message]) -> Sequence[SendOutcome]:
        stream = self._stream or sys.stdout
        for message in messages:
            heading = f"--- {message.channel} to {mask(message.address)} ({message.language}) {message.id}"
            print(heading, message.text, sep="\n", file=stream)
        stream.flush()
        return [SendOutcome(OutcomeClass.SENT)] * len(messages)
