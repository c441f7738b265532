"""Breakers of templates, numbers and accounts, shared by all processes.

An error that is of no one message opens one. While it is open, the messages that it concerns wait, and count
no try. When its pause is over, one message goes as a probe: if the gateway takes it, the breaker closes, else
it stays open for twice as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Final

import structlog

from services.notifications.core.breakers.store import BreakerStore, OpenBreaker, ShownBreaker, key_of
from services.notifications.core.channel import Gateway, Message
from services.notifications.core.domain import Deferred, Meaning
from services.notifications.core.send_policy import BREAKER
from services.notifications.core.updates import Notice
from services.shared.clock import Clock

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pause:
    first: timedelta
    longest: timedelta


UNREACHABLE: Final = "gateway_down"
"""A gateway that answers nothing: most often it is well again soon."""
PROBE: Final = timedelta(seconds=60)
"""How long the result of a probe is waited for; then another message is one."""
BEHIND_A_PROBE: Final = timedelta(seconds=5)
"""How long the others wait before they look again: most probes are answered at once."""
_PAUSES: Final[Mapping[str, Pause]] = {
    "template": Pause(timedelta(minutes=15), timedelta(hours=6)),
    "number": Pause(timedelta(minutes=5), timedelta(hours=1)),
    "account": Pause(timedelta(minutes=5), timedelta(hours=1)),
    UNREACHABLE: Pause(timedelta(seconds=15), timedelta(minutes=10)),
}


class Breakers:
    MEANINGS: ClassVar = {
        Meaning.TEMPLATE: "template",
        Meaning.NUMBER: "number",
        Meaning.CHANNEL: "account",
    }
    """Errors that open one, and its kind."""

    def __init__(self, store: BreakerStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def sort(
        self, gateway: Gateway, messages: Sequence[Message]
    ) -> tuple[list[Message], dict[str, Deferred]]:
        """The messages that may go, probes among them, and until when each of the others waits, by id."""
        opened = await self._store.of(gateway.name)
        if not opened:
            return list(messages), {}
        going: list[Message] = []
        waiting: dict[str, Deferred] = {}
        for message in messages:
            now = self._clock.now()
            against = [opened[key] for key in keys(gateway, message) if key in opened]
            until = max((each.until for each in against), default=now)
            if until <= now and all([await self._store.probe(each.id, PROBE) for each in against]):
                going.append(message)
            else:
                waiting[message.id] = Deferred(max(until, now + timedelta(seconds=1)), BREAKER)
            for each in against:
                if each.until <= now:  # this one was the probe, or somebody else's is
                    opened[each.id] = OpenBreaker(each.id, each.sender, each.kind, now + BEHIND_A_PROBE)
        return going, waiting

    async def trip(
        self, sender: str, meaning: Meaning, subject: str, code: str, *, until: datetime | None = None
    ) -> datetime:
        """Open the breaker of a template, number or account, or leave it open for longer. Returns until when:
        `until` if it is given."""
        return await self._open(sender, self.MEANINGS[meaning], subject, code, until=until)

    async def unreachable(self, gateway: Gateway) -> datetime:
        """The gateway has answered nothing at all."""
        return await self._open(gateway.name, "account", gateway.account, UNREACHABLE)

    async def works(self, gateway: Gateway, messages: Sequence[Message]) -> None:
        """Close the breakers of messages that the gateway has taken, if there are any."""
        opened = await self._store.of(gateway.name)
        closed = {key for message in messages for key in keys(gateway, message)} & opened.keys()
        await self._close(sorted(closed))

    async def notice(self, sender: str, notice: Notice, kind: str) -> None:
        """Follow the provider: it has stopped a template, number or account of ours, or lets it go on."""
        subject = template_key(notice.subject, notice.language) if kind == "template" else notice.subject
        if notice.meaning is None:
            await self._close([key_of(sender, kind, subject)])
        else:
            await self._open(sender, kind, subject, notice.state, until=notice.until)

    async def count(self) -> Mapping[tuple[str, str], int]:
        """How many are open, by sender and kind."""
        return await self._store.count()

    async def opened(self, limit: int) -> Sequence[ShownBreaker]:
        """The open ones of all senders."""
        return await self._store.shown(limit)

    async def close_one(self, shown: str) -> bool:
        """Close the one with this `ShownBreaker.id`; False if none is open."""
        key = await self._store.named(shown)
        if key is None:
            return False
        await self._close([key])
        return True

    async def _open(
        self, sender: str, kind: str, subject: str, code: str, *, until: datetime | None = None
    ) -> datetime:
        pause = _PAUSES[UNREACHABLE if code == UNREACHABLE else kind]
        opened, at = await self._store.open(sender, kind, subject, code, pause.first, pause.longest, until)
        if opened:
            log.error("breaker.opened", sender=sender, kind=kind, subject=subject, code=code)
        return at

    async def _close(self, ids: Sequence[str]) -> None:
        for id_ in await self._store.close(ids):
            log.warning("breaker.closed", breaker=id_)


def keys(gateway: Gateway, message: Message) -> list[str]:
    """The breakers that a message depends on."""
    return [
        key_of(gateway.name, kind, subject_of(meaning, gateway, message))
        for meaning, kind in Breakers.MEANINGS.items()
    ]


def number_of(gateway: Gateway, message: Message) -> str:
    return (message.approved and message.approved.header) or gateway.number


def subject_of(meaning: Meaning, gateway: Gateway, message: Message) -> str:
    """The template, number or account that an error with this meaning is about. All messages without an
    approved template count as one, by the account."""
    if meaning is Meaning.TEMPLATE and message.approved is not None:
        return template_key(message.approved.name, message.approved.language)
    return number_of(gateway, message) if meaning is Meaning.NUMBER else gateway.account


def template_key(name: str, language: str | None) -> str:
    """A template is approved, paused and disabled in each language by itself."""
    return f"{name}/{language.lower().replace('-', '_')}" if language else name
