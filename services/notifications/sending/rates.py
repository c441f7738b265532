"""How many messages may go now: a token bucket for each number, and one message at a time to a person. All
processes share both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from services.notifications.core.channel import Gateway, Message
from services.notifications.core.domain import Deferred
from services.notifications.core.fingerprints import Fingerprints
from services.notifications.core.policies.domain import SERVICE, Policies
from services.notifications.core.send_policy import PAIR_RATE
from services.notifications.sending.store import BucketStore, PairStore
from services.notifications.settings import NotificationsSettings
from services.shared.clock import Clock

PAIR: Final = timedelta(seconds=6)
"""Between two messages to one person on WhatsApp (Meta, "Pair rate limits"), and of one call elsewhere."""
PAIRED: Final = "whatsapp"


class Rates:
    def __init__(
        self,
        buckets: BucketStore,
        pairs: PairStore,
        fingerprints: Fingerprints,
        settings: NotificationsSettings,
        clock: Clock,
    ) -> None:
        self._buckets = buckets
        self._pairs = pairs
        self._fingerprints = fingerprints
        self._clock = clock
        self._per_second: Mapping[str, float] = {
            "whatsapp": settings.whatsapp_per_second,
            "exotel": settings.sms_per_second,
            "smtp": settings.email_per_second,
        }

    async def sort(
        self, gateway: Gateway, messages: Sequence[Message], policies: Policies
    ) -> tuple[list[Message], dict[str, Deferred]]:
        """The messages that may go now, and until when each of the others waits, by id."""
        now = self._clock.now()
        addresses: set[str] = set()
        first: list[Message] = []
        waiting: dict[str, Deferred] = {}
        for message in messages:
            if message.address in addresses:
                waiting[message.id] = _paced(now)
            else:
                addresses.add(message.address)
                first.append(message)
        if not first:
            return first, waiting
        rate = policies.rate(first[0].channel) or self._per_second.get(gateway.name)
        if rate is None:
            return first, waiting
        # Messages go in the order of their turn: what is left comes due as the bucket fills.
        granted = await self._buckets.take(
            f"{gateway.name}:{gateway.number}", len(first), rate, max(1.0, rate)
        )
        for i, message in enumerate(first[granted:], 1):
            waiting[message.id] = Deferred(now + timedelta(seconds=i / rate))
        return await self._paired(gateway, first[:granted], waiting, now)

    async def _paired(
        self, gateway: Gateway, messages: list[Message], waiting: dict[str, Deferred], now: datetime
    ) -> tuple[list[Message], dict[str, Deferred]]:
        """Let those wait whose recipient has just got another message, from this process or another one. An
        answer of ours does not: Meta lends some messages above the rate."""
        bound = [m for m in messages if m.purpose != SERVICE] if gateway.name == PAIRED else []
        if not bound:
            return messages, waiting
        await self._fingerprints.ready()
        pairs = {m.id: pair_of(gateway, self._fingerprints.of(m.channel, m.address)) for m in bound}
        taken = await self._pairs.take(set(pairs.values()), PAIR.total_seconds())
        held = {m.id for m in bound if pairs[m.id] not in taken}
        going = [message for message in messages if message.id not in held]
        waiting |= dict.fromkeys(held, _paced(now))
        return going, waiting


def _paced(now: datetime) -> Deferred:
    return Deferred(now + PAIR, PAIR_RATE)


def pair_of(gateway: Gateway, recipient: str) -> str:
    """The key of a number and the fingerprint of a recipient."""
    return f"{gateway.number}:{recipient}"
