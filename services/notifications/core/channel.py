"""The protocol between the dispatcher and a sender."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.notifications.core.domain import SendOutcome
from services.notifications.core.updates import Asked, Callback, Report, Update


@dataclass(frozen=True, slots=True)
class Approved:
    """A template as its provider or regulator knows it. `name` is the provider's name of it, or the DLT
    template id; `header` is the DLT header (sender id) that it belongs to. `variables` are the values of its
    places, in the order of the approved text."""

    name: str
    language: str
    category: str
    variables: tuple[tuple[str, str], ...] = field(repr=False)
    header: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A text for one address.

    `id` is the notification's. The same id means the same message, sent again because a crash hid the
    outcome; a provider that knows idempotency keys gets it as one. `reference` names this one handing over
    (`<id>.<number>`, at most 43 characters); a gateway carries it through to its callbacks. `approved` is the
    template by which it goes where only approved ones do; `subject`, `html` and `unsubscribe` (a URL that
    takes a POST) are for e-mail. Personal fields are not in the repr, so that no log or traceback shows them.
    """

    id: str
    member_id: str
    channel: str
    language: str
    unit: str
    address: str = field(repr=False)
    text: str = field(repr=False)
    purpose: str = ""
    approved: Approved | None = None
    subject: str | None = field(default=None, repr=False)
    html: str | None = field(default=None, repr=False)
    unsubscribe: str | None = field(default=None, repr=False)
    reference: str = ""
    without: str | None = None
    """Lacking in a welcome (`no_group` or `no_invite`); its text says so."""


class Sender(Protocol):
    """A way to send messages. One that implements `Gateway` too has callbacks and polls."""

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


class Gateway(Sender, Protocol):
    """A sender that hands messages to a provider outside. It knows no idempotency keys: a message of which it
    is not known whether it was taken is not sent again, but waits for a callback or a poll."""

    @property
    def account(self) -> str:
        """The account at the provider: it has a breaker of its own."""
        ...

    @property
    def number(self) -> str:
        """The number, header or address that it sends from: it has a breaker and a rate of its own."""
        ...

    @property
    def approved_only(self) -> bool:
        """Whether it takes approved templates only, but for answers within the 24 h window of WhatsApp."""
        ...

    @property
    def polls(self) -> bool:
        """Whether the provider can be asked how far a message has come."""
        ...

    def parse(self, callback: Callback) -> Sequence[Update]:
        """All that a callback tells, of every level of its batches. What it does not know is skipped and
        counted, never an error.

        Raises: `ValueError` for a body that is not of this provider at all.
        """
        ...

    async def poll(self, messages: Sequence[Asked]) -> Sequence[Report]:
        """Ask the provider about messages; nothing about those that it cannot tell of.

        Raises: `TransientError`.
        """
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Gateways:
    """The gateway of each channel that has one; the other channels are not used."""

    by_channel: Mapping[str, Gateway]

    def named(self, sender: str) -> Gateway | None:
        """The gateway of that name."""
        return next((each for each in self.by_channel.values() if each.name == sender), None)

    async def close(self) -> None:
        for gateway in self.by_channel.values():
            await gateway.close()


def mask(address: str) -> str:
    """Show enough to recognise one's own number, too little to call it: `+91********10`, `a***@***`."""
    if "@" in address:
        return f"{address[:1]}***@***"
    hidden = max(0, len(address) - 5)
    return address[:3] + "*" * hidden + address[-2:] if hidden else "*" * len(address)
