"""The protocol between the dispatcher and a sender."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.notifications.core.domain import SendOutcome


@dataclass(frozen=True, slots=True)
class Message:
    """A text for one address.

    `id` is the notification's. The same id means the same message, sent again because a crash hid the
    outcome; a provider that knows idempotency keys gets it as one. Personal fields are not in the repr, so
    that no log or traceback shows them.
    """

    id: str
    member_id: str
    channel: str
    language: str
    unit: str
    address: str = field(repr=False)
    text: str = field(repr=False)
    without: str | None = None
    """Lacking in a welcome (`no_group` or `no_invite`); its text says so."""


class Sender(Protocol):
    @property
    def name(self) -> str:
        """The word for it in settings, events, attempts and metrics."""
        ...

    async def send(self, messages: Sequence[Message]) -> Sequence[SendOutcome]:
        """Hand over the batch; one outcome for each message, in order.

        A refused message is an outcome, not an exception, and must not keep the others back.

        Raises: `TransientError` or a transient MongoDB error when the sender as a whole is out of reach. The
        batch is then sent again later, without counting a try.
        """
        ...


def mask(address: str) -> str:
    """Show enough to recognise one's own number, too little to call it: `+91********10`, `a***@***`."""
    if "@" in address:
        return f"{address[:1]}***@***"
    hidden = max(0, len(address) - 5)
    return address[:3] + "*" * hidden + address[-2:] if hidden else "*" * len(address)
