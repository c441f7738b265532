"""Applying a provider's reports, from callbacks and polls alike, to deliveries and their notifications."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.notifications.core.breakers.breakers import Breakers
from services.notifications.core.deliveries.domain import DeliveryRecord, outcome_of
from services.notifications.core.deliveries.store import DeliveryStore
from services.notifications.core.domain import Meaning, Notification, RetryPolicy, State, reported
from services.notifications.core.metrics import NotificationMetrics
from services.notifications.core.opting_out import OptingOut, stage_about_members
from services.notifications.core.promises import Promises
from services.notifications.core.recipients import Recipient
from services.notifications.core.store import MemberSequences, NotificationStore, RecipientStore
from services.notifications.core.suppressions.domain import INFERRED, MESSAGES, Act, suppression_id
from services.notifications.core.updates import Delivery, Report
from services.notifications.core.windows.store import CLOSED, WindowStore
from services.shared.clock import Clock
from services.shared.contracts.notifications import MemberUnreachable
from services.shared.messaging import Origin, UnitOfWork

_OF_A_PERSON = frozenset({Meaning.RECIPIENT, Meaning.CONSENT})
"""Errors that tell something of the recipient, whatever the message."""


def tells_of_person(meaning: Meaning | None, error_class: str | None) -> bool:
    """Whether a failure tells something of the recipient, for the next message too."""
    return meaning in _OF_A_PERSON or error_class == CLOSED


@dataclass(frozen=True, slots=True)
class Applied:
    """Changes that a report made. `record` is the delivery after it, None if the message is unknown (yet)."""

    report: Report
    record: DeliveryRecord | None = None
    is_news: bool = False
    came_further: bool = False
    """Whether its status is a higher one now."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A delivery that has failed in a way that tells something of the recipient."""

    record: DeliveryRecord
    meaning: Meaning | None
    error_class: str | None
    code: str | None
    at: datetime


class ReportApplier:
    def __init__(
        self,
        deliveries: DeliveryStore,
        notifications: NotificationStore,
        recipients: RecipientStore,
        sequences: MemberSequences,
        opting_out: OptingOut,
        promises: Promises,
        windows: WindowStore,
        breakers: Breakers,
        policy: RetryPolicy,
        clock: Clock,
        metrics: NotificationMetrics,
        due: asyncio.Event,
    ) -> None:
        self._deliveries = deliveries
        self._notifications = notifications
        self._recipients = recipients
        self._sequences = sequences
        self._opting_out = opting_out
        self._promises = promises
        self._windows = windows
        self._breakers = breakers
        self._policy = policy
        self._clock = clock
        self._metrics = metrics
        self._due = due

    async def apply(self, sender: str, reports: Sequence[Report], work: UnitOfWork) -> list[Applied]:
        """Apply the reports in the transaction of `work`, and stage the events that follow. A report that was
        applied before, or that others have overtaken, changes nothing. Give the result to `stop` when the
        transaction is committed.

        Returns what became of each, in the order given.
        """
        before = await self._records(sender, reports, work)
        notifications = await self._notifications.by_id(
            {record.notification_id for record in before.values()}, work.session
        )
        records, now = dict(before), self._clock.now()
        by_provider_id = {r.provider_id: r.id for r in records.values() if r.provider_id}
        changed: dict[str, Notification] = {}
        failures: list[Failure] = []
        results: list[Applied] = []
        for report in reports:
            id_ = report.reference if report.reference in records else None
            record = records.get(id_ or by_provider_id.get(report.provider_id or "", ""))
            if record is None or record.sender != sender:
                results.append(Applied(report))
                continue
            after = record.advanced(report, now)
            records[after.id] = after
            if after.provider_id is not None:
                by_provider_id[after.provider_id] = after.id
            came_further = after.status is not record.status
            results.append(Applied(report, after, after is not record, came_further))
            if came_further:
                self._count(after, report, work)
                if report.status is Delivery.FAILED and tells_of_person(report.meaning, report.error_class):
                    failures.append(
                        Failure(after, report.meaning, report.error_class, report.code, report.at)
                    )
            elif report.status is Delivery.FAILED:
                continue  # repeated, or of what was delivered
            notification = changed.get(record.notification_id) or notifications.get(record.notification_id)
            if notification is None:
                continue
            step = reported(notification, record.number, outcome_of(report), policy=self._policy, now=now)
            if step.state != notification:
                changed[notification.id] = step.state
                cause = notification.cause
                origin = Origin(cause.correlation_id, cause.traceparent, cause.causation_id)
                work.stage_all(step.events, origin)
        await self._deliveries.save([r for id_, r in records.items() if r is not before[id_]], work.session)
        await self._notifications.save(list(changed.values()), work.session)
        without = {n.member_id: n.cause for n in changed.values() if n.state is State.SENT and n.without}
        await self._promises.keep(without, work)
        await self.heed(failures, work)
        if changed:
            ended = list(changed.values())
            work.after_commit(lambda: self._metrics.entered(ended))
            work.after_commit(self._due.set)
        return results

    async def heed(self, failures: Sequence[Failure], work: UnitOfWork) -> None:
        """Tell the others that a member is not reached on a channel, and put on the suppression list whom the
        provider says to have stopped our messages; close the windows that it says are closed."""
        closed = [each.record for each in failures if each.error_class == CLOSED]
        await self._windows.close([(r.channel, r.to, r.created_at) for r in closed if r.to], work.session)
        failures = [each for each in failures if each.meaning in _OF_A_PERSON]
        if not failures:
            return
        members = {each.record.member_id for each in failures}
        recipients = await self._recipients.by_id(members, work.session)
        origin = Origin.here()
        unreachable = [
            MemberUnreachable(
                member_id=each.record.member_id,
                unit=_unit(each.record, recipients),
                channel=each.record.channel,
                reason=each.error_class or "undeliverable",
                notification_id=each.record.notification_id,
            )
            for each in failures
            if each.meaning is Meaning.RECIPIENT
        ]
        stopped = [
            Act(
                suppression_id(each.record.channel, each.record.to),
                each.record.channel,
                True,
                MESSAGES,
                INFERRED,
                each.at,
                each.record.member_id,
                _unit(each.record, recipients),
                each.code,
            )
            for each in failures
            if each.meaning is Meaning.CONSENT and each.record.to is not None
        ]
        await self._opting_out.act(stopped, work, origin)
        await stage_about_members(unreachable, self._sequences, work, origin)

    async def stop(self, sender: str, applied: Sequence[Applied]) -> None:
        """Open the breakers of templates, numbers and accounts that failed reports tell of; each report opens
        them once."""
        for each in applied:
            record, meaning = each.record, each.report.meaning
            if record is None or not each.came_further or meaning not in self._breakers.MEANINGS:
                continue
            assert meaning is not None
            subjects = {Meaning.TEMPLATE: record.template or record.account, Meaning.NUMBER: record.sent_from}
            subject = subjects.get(meaning, record.account)
            await self._breakers.trip(sender, meaning, subject, each.report.error_class or "failed")

    async def _records(
        self, sender: str, reports: Sequence[Report], work: UnitOfWork
    ) -> dict[str, DeliveryRecord]:
        references = {r.reference for r in reports if r.reference}
        records = await self._deliveries.by_reference(references, work.session)
        others = {(sender, r.provider_id) for r in reports if r.provider_id and r.reference not in records}
        found = await self._deliveries.by_provider_id(others, work.session)
        return records | {record.id: record for record in found.values()}

    def _count(self, record: DeliveryRecord, report: Report, work: UnitOfWork) -> None:
        count = self._metrics.deliveries.labels(record.sender, report.status.value)
        work.after_commit(count.inc)


def _unit(record: DeliveryRecord, recipients: Mapping[str, Recipient]) -> str:
    """The member's unit as it is now, if that is known."""
    recipient = recipients.get(record.member_id)
    return recipient.unit if recipient is not None and recipient.unit else record.unit
