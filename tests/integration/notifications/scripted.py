"""A sender that answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from services.notifications.core.channel import Message
from services.notifications.core.domain import OutcomeClass, SendOutcome
from tests.integration.notifications.conftest import (
    Bench,
    assigned,
    joined,
)
from tests.integration.notifications.stand_ins import Peers

SENT = SendOutcome(OutcomeClass.SENT)


class Scripted:
    """Answers with the given outcomes in turn, repeating the last; waits for `gate` when there is one."""

    name = "scripted"

    def __init__(self, *outcomes: SendOutcome) -> None:
        self.outcomes = list(outcomes) or [SENT]
        self.sent: list[Message] = []
        self.gate: asyncio.Event | None = None
        self.reached = asyncio.Event()

    async def send(self, messages: Sequence[Message]) -> Sequence[SendOutcome]:
        self.reached.set()
        if self.gate is not None:
            await self.gate.wait()
        self.sent += messages
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        return [outcome] * len(messages)


async def queued(bench: Bench, peers: Peers, **person: object) -> tuple[str, str]:
    """A member with a welcome that is due, and the group."""
    member, group = peers.add_member(**person), peers.add_group()  # type: ignore[arg-type]
    await bench.deliver(joined(member), assigned(member, group, ready=True))
    return member, group
