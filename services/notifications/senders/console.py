"""For development: shows each message on standard output, with its address masked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final, TextIO

from services.notifications.domain import Outcome, OutcomeClass
from services.notifications.senders.base import Message, mask


class ConsoleSender:
    """Prints the text as it is, the member's name too: not for production. `stream` None is standard output."""

    name: Final = "console"

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    async def send(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        stream = self._stream or sys.stdout
        for message in messages:
            heading = f"--- {message.channel} to {mask(message.address)} ({message.language}) {message.id}"
            print(heading, message.text, sep="\n", file=stream)
        stream.flush()
        return [Outcome(OutcomeClass.SENT)] * len(messages)
