"""Ways of handing messages over: one sender for all channels, or a gateway for each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import structlog

from services.notifications.core.channel import Gateways, Message, Sender
from services.notifications.core.core import Core
from services.notifications.core.domain import (
    DEFER,
    Attempted,
    Decision,
    Deferred,
    DispatchResult,
    OutcomeClass,
    SendOutcome,
)
from services.notifications.core.policies.domain import Policies
from services.shared.contracts.vocabulary import Channel
from services.shared.faults import may_pass
from services.shared.messaging import bisect
from services.shared.observability.tracing import Spans

log = structlog.get_logger(__name__)

SENDER_ERROR: Final = "sender_error"


@dataclass(frozen=True, slots=True)
class Batch:
    """A claimed batch: its claim, the number that a handing over of each notification would
    have, its spans, until when (monotonic) something may be handed over, the decisions of the send policy
    by notification id, and the policies by which it decided."""

    claim: str
    numbers: Mapping[str, int]
    spans: Spans
    deadline: float
    decisions: dict[str, Decision]
    policies: Policies

    def defer(self, id_: str, deferred: Deferred) -> None:
        """Decide otherwise at the handing over, where limits are taken and not only looked at."""
        if deferred.reason is not None and (made := self.decisions.get(id_)) is not None:
            self.decisions[id_] = replace(
                made, verdict=DEFER, rule=deferred.reason, reason=deferred.reason, until=deferred.until
            )


class Way(Protocol):
    """How messages leave."""

    @property
    def senders(self) -> Mapping[str, str]:
        """The name of the sender, by channel."""
        ...

    @property
    def approving(self) -> Collection[str]:
        """The channels on which approved templates alone are taken."""
        ...

    async def hand_over(self, batch: Batch, messages: Sequence[Message]) -> dict[str, DispatchResult]:
        """Hand the messages over. Returns the results that are still to be recorded, by id.

        Raises: a fault that passes; the rest of the batch is then put back.
        """
        ...


def senders_of(sender: Sender | Gateways) -> dict[str, str]:
    """The name of the sender, by channel; a channel without one is not used."""
    if isinstance(sender, Gateways):
        return {channel: gateway.name for channel, gateway in sender.by_channel.items()}
    return {channel.value: sender.name for channel in Channel}


def approving(sender: Sender | Gateways) -> frozenset[str]:
    """The channels on which only approved templates go."""
    if not isinstance(sender, Gateways):
        return frozenset()
    return frozenset(channel for channel, each in sender.by_channel.items() if each.approved_only)


class OneSender:
    """Hands all messages to one sender that knows a message by its id: one that was handed over before a
    crash is handed over again."""

    def __init__(self, core: Core, sender: Sender) -> None:
        self._sender = sender
        self._metrics = core.metrics
        self.senders: Mapping[str, str] = senders_of(sender)
        self.approving: Collection[str] = ()

    async def hand_over(self, batch: Batch, messages: Sequence[Message]) -> dict[str, DispatchResult]:
        """Raises: a fault of the sender that passes. One that does not is found by bisection and fails its
        message alone; the others may be handed over again, under the same ids."""
        results: dict[str, DispatchResult] = {}

        async def send(part: Sequence[Message]) -> None:
            outcomes = await self._sender.send(part)
            results.update((m.id, self._attempted(m, o)) for m, o in zip(part, outcomes, strict=True))

        async def fail(message: Message, error: Exception) -> None:
            log.error("dispatch.sender_failed", notification=message.id, error=type(error).__name__)
            self._metrics.isolated.labels(SENDER_ERROR).inc()
            outcome = SendOutcome(OutcomeClass.TRANSIENT, SENDER_ERROR)
            results[message.id] = self._attempted(message, outcome)

        if messages:
            await bisect(messages, send, fail, splits=lambda error: not may_pass(error))
        return results

    def _attempted(self, message: Message, outcome: SendOutcome) -> Attempted:
        return Attempted(
            outcome, self._sender.name, message.channel, message.language, message.unit, message.without
        )
