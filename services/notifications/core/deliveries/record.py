"""The record of one handing over. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from services.notifications.core.domain import AGAIN, OutcomeClass, SendOutcome
from services.notifications.core.updates import Delivery, Report

MOST_POLLS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRecord:
    """`id` is the reference that the provider got: the notification's id and the number of the handing over.
    `account` and `sent_from` are the gateway's. `reached` has the time of
    each status, by the provider; `status` is the highest. There is no address, no
    name and no text in it."""

    id: str
    notification_id: str
    member_id: str
    unit: str
    channel: str
    sender: str
    account: str
    sent_from: str
    template: str | None = None
    provider_id: str | None = None
    status: Delivery = Delivery.QUEUED
    reached: Mapping[str, datetime]
    code: str | None = None
    error_class: str | None = None
    category: str | None = None
    created_at: datetime
    changed_at: datetime
    poll_at: datetime | None = None
    """When the provider is asked about it; None when there is nothing to ask, or nobody."""
    polls: int = 0

    @property
    def number(self) -> int:
        return int(self.id.rpartition(".")[2])

    def advanced(self, report: Report, now: datetime) -> DeliveryRecord:
        """The record with what a report adds; the same one if it adds nothing. A status never goes back."""
        known = self
        if self.provider_id is None and report.provider_id is not None:
            known = replace(known, provider_id=report.provider_id)
        if report.category and not self.category:
            known = replace(known, category=report.category)
        if report.status.rank > self.status.rank:
            ended = report.status not in (Delivery.QUEUED, Delivery.SENT)
            known = replace(
                known,
                status=report.status,
                reached={**self.reached, report.status.value: report.at},
                code=report.code,
                error_class=report.error_class,
                poll_at=None if ended else self.poll_at,
            )
        return known if known == self else replace(known, changed_at=now)

    def polled(self, now: datetime, first: timedelta) -> DeliveryRecord:
        """It is being asked about; the next time is later by twice the pause, until there is none."""
        polls = self.polls + 1
        next_at = now + first * 2**polls if polls < MOST_POLLS else None
        return replace(self, polls=polls, poll_at=next_at)


def reference(notification_id: str, number: int) -> str:
    return f"{notification_id}.{number}"


def outcome_of(report: Report) -> SendOutcome:
    """The outcome of the handing over by a report. Every status but `FAILED` shows that it was taken."""
    if report.status is not Delivery.FAILED:
        return SendOutcome(OutcomeClass.SENT, provider_id=report.provider_id)
    kind = OutcomeClass.TRANSIENT if report.meaning in AGAIN else OutcomeClass.PERMANENT
    return SendOutcome(kind, report.error_class or "failed", report.meaning, report.provider_id)
