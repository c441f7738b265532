"""The record of one message that was handed to a gateway, and how far it has come. Pure.

Reports of a provider come in any order, several times, and some never. The record ends in the same state
whatever the order: its status is the one of the highest rank, and each status keeps the earliest time that
was told of it.
"""

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
    `account` and `sent_from` are the gateway's. `reached` has the earliest time told of each status; `status`
    is the highest. There is no address, no name and no text in it."""

    id: str
    notification_id: str
    member_id: str
    unit: str
    purpose: str
    channel: str
    sender: str
    account: str
    sent_from: str
    to: str | None = None
    """The fingerprint of the address (`Fingerprints`), by which an answer is known to be this member's."""
    template: str | None = None
    provider_id: str | None = None
    """The provider's id of the message; None until it is known."""
    status: Delivery = Delivery.QUEUED
    reached: Mapping[str, datetime]
    code: str | None = None
    """The provider's word for why it failed."""
    error_class: str | None = None
    category: str | None = None
    """The price category that was told first."""
    created_at: datetime
    changed_at: datetime
    poll_at: datetime | None = None
    """When the provider is asked about it; None when there is nothing to ask, or nobody."""
    polls: int = 0

    @property
    def number(self) -> int:
        return int(self.id.rpartition(".")[2])

    def advanced(self, report: Report, now: datetime) -> DeliveryRecord:
        """The record after a report; the same one if the report tells nothing new."""
        status = report.status
        told = self.reached.get(status.value)
        after = self
        if told is None or report.at < told:
            after = replace(after, reached={**self.reached, status.value: report.at})
        if self.provider_id is None and report.provider_id is not None:
            after = replace(after, provider_id=report.provider_id)
        if self.category is None and report.category is not None:
            after = replace(after, category=report.category)
        if status.rank > self.status.rank:
            failed = status is Delivery.FAILED
            after = replace(
                after,
                status=status,
                code=report.code if failed else None,
                error_class=report.error_class if failed else None,
                poll_at=self.poll_at if status is Delivery.SENT else None,
            )
        return self if after == self else replace(after, changed_at=now)

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
