"""Handing messages over to gateways, which know no idempotency keys: neither lost nor doubled.

For each small chunk: mark the notifications as handed over, call the gateway, record what it answered. A
process that dies after the mark leaves it, and whoever finds it does not send the message again: its outcome
is unknown until a callback or a poll tells. See ADR 49.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from services.notifications.core.breakers.breakers import Breakers, subject_of, template_key
from services.notifications.core.channel import Gateway, Gateways, Message
from services.notifications.core.core import Core
from services.notifications.core.deliveries.applying import Failure, tells_of_person
from services.notifications.core.deliveries.domain import DeliveryRecord, reference
from services.notifications.core.domain import (
    Attempted,
    Deferred,
    DispatchResult,
    Handed,
    Meaning,
    Notification,
    NotTaken,
    OutcomeClass,
    SendOutcome,
)
from services.notifications.core.policies.domain import account_of
from services.notifications.core.providers import NO_ANSWER, UNREACHABLE
from services.notifications.core.updates import Delivery, Report
from services.notifications.sending.rates import Rates
from services.notifications.sending.results import ResultRecorder
from services.notifications.sending.routing import SENDER_ERROR, Batch, approving, senders_of
from services.notifications.sending.store import BucketStore, PairStore, QueueStore
from services.shared.messaging import UnitOfWork

log = structlog.get_logger(__name__)

AT_ONCE: Final = 2
"""Chunks that one gateway gets at one time: while one is being recorded, the next is on its way."""
AGAIN: Final = timedelta(seconds=15)
"""The pause of a message that a gateway in use did not take."""


class GatewayHandover:
    def __init__(self, core: Core, gateways: Gateways, queue: QueueStore, recorder: ResultRecorder) -> None:
        self._gateways = gateways
        self._queue = queue
        self._recorder = recorder
        self._deliveries = core.deliveries
        self._fingerprints = core.fingerprints
        self._reports = core.reports
        self._breakers = core.breakers
        self._budgets = core.budgets
        self._outbox = core.runtime.outbox
        database = core.runtime.database
        self._rates = Rates(
            BucketStore(database), PairStore(database), core.fingerprints, core.settings, core.clock
        )
        self._clock = core.clock
        self._metrics = core.metrics
        self._chunk = core.settings.handover_chunk
        self._poll_after = timedelta(minutes=core.settings.poll_minutes)
        self.senders: Mapping[str, str] = senders_of(gateways)
        self.approving: Collection[str] = approving(gateways)

    async def hand_over(self, batch: Batch, messages: Sequence[Message]) -> dict[str, DispatchResult]:
        """Raises: a fault of MongoDB. A fault of a gateway is an outcome."""
        by_channel: dict[str, list[Message]] = defaultdict(list)
        for message in messages:
            by_channel[message.channel].append(message)
        results: dict[str, DispatchResult] = {}
        turns = {channel: asyncio.Semaphore(AT_ONCE) for channel in by_channel}

        async def one(channel: str, chunk: Sequence[Message]) -> None:
            async with turns[channel]:
                results.update(await self._hand_over(self._gateways.by_channel[channel], batch, chunk))

        chunks = [
            one(channel, messages[i : i + self._chunk])
            for channel, messages in by_channel.items()
            for i in range(0, len(messages), self._chunk)
        ]
        # Each chunk ends, whatever becomes of another: what has been handed over is to be recorded.
        for outcome in await asyncio.gather(*chunks, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        return results

    async def settle(self, notifications: Sequence[Notification]) -> dict[str, DispatchResult]:
        """Results of notifications that are found handed over: by their delivery records if these tell, else
        unknown."""
        found = {n.id: reference(n.id, n.handed.number) for n in notifications if n.handed}
        records = await self._deliveries.by_reference(found.values())
        results: dict[str, DispatchResult] = {}
        for notification in notifications:
            record = records.get(found[notification.id])
            taken = record is not None and record.status not in (Delivery.QUEUED, Delivery.FAILED)
            if record is not None and taken:
                outcome = SendOutcome(OutcomeClass.SENT, provider_id=record.provider_id)
                results[notification.id] = Attempted(
                    outcome,
                    record.sender,
                    record.channel,
                    notification.language,
                    notification.unit,
                    notification.handed.without if notification.handed else None,
                )
            else:
                results[notification.id] = Deferred(self._clock.now())
        return results

    async def _hand_over(
        self, gateway: Gateway, batch: Batch, messages: Sequence[Message]
    ) -> dict[str, DispatchResult]:
        """Returns results of messages that were not handed over; the others are recorded."""
        if time.monotonic() > batch.deadline:
            return {message.id: Deferred(self._clock.now()) for message in messages}
        going, waiting = await self._breakers.sort(gateway, messages)
        going, later = await self._rates.sort(gateway, going, batch.policies)
        left = waiting | later
        for id_, deferred in left.items():
            batch.defer(id_, deferred)
        handed = await self._mark(gateway, batch, going) if going else []
        if handed:
            outcomes = await self._send(gateway, handed)
            results = await self._judge(gateway, handed, outcomes)
            recorded = await self._recorder.record(batch.claim, results, batch.spans, batch.decisions)
            await self._tell(
                gateway, [m for m in handed if m.id not in recorded], dict(zip(handed, outcomes, strict=True))
            )
            await self._heed(handed, outcomes)
        return dict(left)

    async def _mark(self, gateway: Gateway, batch: Batch, messages: Sequence[Message]) -> list[Message]:
        """Write that they are handed over, with a record of each; those that the claim still holds."""
        now = self._clock.now()
        numbered = [replace(m, reference=reference(m.id, batch.numbers[m.id])) for m in messages]
        await self._fingerprints.ready()
        await self._deliveries.begin([self._record(gateway, message, now) for message in numbered])
        marks = {m.id: Handed(batch.numbers[m.id], now, gateway.name, m.channel, m.without) for m in numbered}
        marked = await self._queue.mark(batch.claim, marks)
        return [message for message in numbered if message.id in marked]

    def _record(self, gateway: Gateway, message: Message, now: datetime) -> DeliveryRecord:
        approved = message.approved
        return DeliveryRecord(
            id=message.reference,
            notification_id=message.id,
            member_id=message.member_id,
            unit=message.unit,
            purpose=message.purpose,
            channel=message.channel,
            sender=gateway.name,
            account=gateway.account,
            sent_from=(approved and approved.header) or gateway.number,
            to=self._fingerprints.of(message.channel, message.address),
            template=template_key(approved.name, approved.language) if approved else None,
            reached={Delivery.QUEUED.value: now},
            created_at=now,
            changed_at=now,
        )

    async def _send(self, gateway: Gateway, messages: Sequence[Message]) -> Sequence[SendOutcome]:
        """A fault of the gateway's own code leaves all outcomes unknown."""
        try:
            outcomes = list(await gateway.send(messages))
        except Exception as error:
            log.error("dispatch.gateway_failed", sender=gateway.name, error=type(error).__name__)
            outcomes = []
        if len(outcomes) != len(messages):
            self._metrics.isolated.labels(SENDER_ERROR).inc(len(messages))
            return [SendOutcome(OutcomeClass.UNKNOWN, NO_ANSWER)] * len(messages)
        return outcomes

    async def _judge(
        self, gateway: Gateway, messages: Sequence[Message], outcomes: Sequence[SendOutcome]
    ) -> dict[str, DispatchResult]:
        """Keep the deliveries, open and close breakers; the result of each message."""
        now = self._clock.now()
        again = now + AGAIN
        if all(_unanswered(outcome) for outcome in outcomes):
            again = await self._breakers.unreachable(gateway)
        stopped: dict[tuple[Meaning, str], datetime] = {}
        taken: dict[str, str | None] = {}
        refused: dict[str, tuple[str | None, str | None]] = {}
        results: dict[str, DispatchResult] = {}
        for message, outcome in zip(messages, outcomes, strict=True):
            results[message.id] = Attempted(
                outcome, gateway.name, message.channel, message.language, message.unit, message.without
            )
            if outcome.kind is OutcomeClass.SENT:
                taken[message.reference] = outcome.provider_id
            elif outcome.error_class == UNREACHABLE:
                results[message.id] = NotTaken(again)
            elif outcome.meaning in Breakers.MEANINGS:
                subject = subject_of(outcome.meaning, gateway, message)
                key = (outcome.meaning, subject)
                if key not in stopped:
                    code = outcome.error_class or "refused"
                    stopped[key] = await self._breakers.trip(gateway.name, *key, code)
                results[message.id] = NotTaken(stopped[key])
            elif outcome.kind is not OutcomeClass.UNKNOWN:
                refused[message.reference] = (outcome.error_class, outcome.code)
        await self._deliveries.taken(taken, now + self._poll_after if gateway.polls else None, now)
        await self._deliveries.refused(refused, now)
        await self._give_back(gateway, [message for message in messages if message.reference in refused])
        if sent := [message for message in messages if message.reference in taken]:
            await self._breakers.works(gateway, sent)
        return results

    async def _give_back(self, gateway: Gateway, refused: Sequence[Message]) -> None:
        """Nobody was reached by these, so they cost the budget nothing."""
        by_channel: dict[str, dict[str, str]] = defaultdict(dict)
        for message in refused:
            recipient = self._fingerprints.of(message.channel, message.address)
            by_channel[message.channel][recipient] = message.id
        for channel, recipients in by_channel.items():
            await self._budgets.give_back(account_of(channel, gateway.account), recipients)

    async def _heed(self, messages: Sequence[Message], outcomes: Sequence[SendOutcome]) -> None:
        """Some refusals tell something of the recipient, as a report would later."""
        spoke = {
            message.reference: outcome
            for message, outcome in zip(messages, outcomes, strict=True)
            if outcome.kind is not OutcomeClass.SENT and tells_of_person(outcome.meaning, outcome.error_class)
        }
        if not spoke:
            return
        now = self._clock.now()
        failures = [
            Failure(record, outcome.meaning, outcome.error_class, outcome.code, now)
            for id_, record in (await self._deliveries.by_reference(spoke)).items()
            if (outcome := spoke[id_])
        ]

        async def body(work: UnitOfWork) -> None:
            await self._reports.heed(failures, work)

        await self._outbox.transact(body)

    async def _tell(
        self, gateway: Gateway, lost: Sequence[Message], outcomes: dict[Message, SendOutcome]
    ) -> None:
        """The claim of these ran out, or a callback was faster: what the gateway answered still counts."""
        now = self._clock.now()
        reports = [
            Report(outcome.provider_id, message.reference, Delivery.SENT, now)
            for message in lost
            if (outcome := outcomes[message]).kind is OutcomeClass.SENT
        ]

        async def body(work: UnitOfWork) -> None:
            await self._reports.apply(gateway.name, reports, work)

        if reports:
            await self._outbox.transact(body)


def _unanswered(outcome: SendOutcome) -> bool:
    return outcome.kind is OutcomeClass.UNKNOWN or outcome.error_class == UNREACHABLE
