"""Applying a provider's reports, from callbacks and polls alike, to deliveries and their notifications."""

from __future__ import annotations

from collections.abc import Sequence

from services.notifications.core.breakers.breakers import Breakers
from services.notifications.core.deliveries.record import DeliveryRecord, outcome_of
from services.notifications.core.deliveries.store import DeliveryStore
from services.notifications.core.domain import Meaning, Notification, RetryPolicy, reported
from services.notifications.core.metrics import NotificationMetrics
from services.notifications.core.store import NotificationStore
from services.notifications.core.updates import Delivery, Report
from services.shared.clock import Clock
from services.shared.messaging import Origin, UnitOfWork


class ReportApplier:
    def __init__(
        self,
        deliveries: DeliveryStore,
        notifications: NotificationStore,
        breakers: Breakers,
        policy: RetryPolicy,
        clock: Clock,
        metrics: NotificationMetrics,
    ) -> None:
        self._deliveries = deliveries
        self._notifications = notifications
        self._breakers = breakers
        self._policy = policy
        self._clock = clock
        self._metrics = metrics

    async def apply(self, sender: str, reports: Sequence[Report], work: UnitOfWork) -> list[Report]:
        """Apply the reports in the transaction of `work`, and stage the events that follow. A report that was
        applied before, or that others have overtaken, changes nothing.

        Returns those about messages that are not known (yet).
        """
        records = await self._records(sender, reports, work)
        notifications = await self._notifications.by_id(
            {record.notification_id for record in records.values()}, work.session
        )
        by_provider_id = {r.provider_id: r.id for r in records.values() if r.provider_id}
        before = dict(records)
        changed: dict[str, Notification] = {}
        unknown: list[Report] = []
        now = self._clock.now()
        for report in reports:
            record = records.get(report.reference or "") or records.get(
                by_provider_id.get(report.provider_id or "", "")
            )
            if record is None or record.sender != sender:
                unknown.append(report)
                continue
            after = record.advanced(report, now)
            records[record.id] = after
            if report.status is Delivery.FAILED and after.status is record.status:
                continue  # repeated, or of what was delivered
            if after.status is not record.status:
                self._count(after, report, work)
            notification = changed.get(record.notification_id) or notifications.get(record.notification_id)
            if notification is None:
                continue
            step = reported(notification, record.number, outcome_of(report), policy=self._policy, now=now)
            if step.state != notification:
                changed[notification.id] = step.state
                cause = notification.cause
                origin = Origin(cause.correlation_id, cause.traceparent, cause.causation_id)
                work.stage_all(step.events, origin)
        await self._deliveries.save([r for id_, r in records.items() if r != before[id_]], work.session)
        await self._notifications.save(list(changed.values()), work.session)
        ended = list(changed.values())
        work.after_commit(lambda: self._metrics.entered(ended))
        return unknown

    async def stop(self, sender: str, reports: Sequence[Report]) -> None:
        """Open the breakers of templates, numbers and accounts that failed reports tell of."""
        stops = {r.reference: r for r in reports if r.reference and r.meaning in self._breakers.MEANINGS}
        for id_, record in (await self._deliveries.by_reference(stops)).items():
            report = stops[id_]
            assert report.meaning is not None
            subjects = {Meaning.TEMPLATE: record.template or record.account, Meaning.NUMBER: record.sent_from}
            subject = subjects.get(report.meaning, record.account)
            await self._breakers.trip(sender, report.meaning, subject, report.error_class or "failed")

    async def _records(
        self, sender: str, reports: Sequence[Report], work: UnitOfWork
    ) -> dict[str, DeliveryRecord]:
        references = {r.reference for r in reports if r.reference}
        records = await self._deliveries.by_reference(references, work.session)
        others = {r.provider_id for r in reports if r.provider_id and r.reference not in records}
        found = await self._deliveries.by_provider_id(sender, others, work.session) if others else {}
        return records | {record.id: record for record in found.values()}

    def _count(self, record: DeliveryRecord, report: Report, work: UnitOfWork) -> None:
        count = self._metrics.deliveries.labels(record.sender, report.status.value)
        work.after_commit(count.inc)
