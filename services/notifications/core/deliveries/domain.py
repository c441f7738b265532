"""The record of one message that was handed to a provider, and how far it has come. Pure.

Reports of a provider come in any order, several times, and some never. The record ends in the same state
whatever the order: its status is the one of the highest rank, and each status keeps the earliest time that
was told of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from services.notifications.core.updates import Delivery, Report


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRecord:
    """One message on one channel. Its id is the reference that its provider gives back."""

    id: str
    """`<notification id>.<number of the step>`"""
    notification_id: str
    member_id: str
    unit: str
    purpose: str
    channel: str
    sender: str
    account: str
    to: str | None = None
    """The fingerprint of the address (`Fingerprints`), by which an answer is known to be this member's."""
    provider_id: str | None = None
    """The provider's id of the message; None until it is known."""
    status: str = Delivery.QUEUED.value
    status_at: Mapping[str, datetime] = field(default_factory=dict)
    """The earliest time told of each status."""
    code: str | None = None
    """The provider's word for why it failed."""
    error_class: str | None = None
    category: str | None = None
    """The price category that was told first."""
    created_at: datetime
    changed_at: datetime


def delivery_id(notification_id: str, step: int) -> str:
    return f"{notification_id}.{step}"


def advance(record: DeliveryRecord, report: Report, now: datetime) -> DeliveryRecord:
    """The record after a report; the same one if the report tells nothing new."""
    status = report.status.value
    told = record.status_at.get(status)
    after = record
    if told is None or report.at < told:
        after = replace(after, status_at={**record.status_at, status: report.at})
    if report.provider_id is not None and record.provider_id is None:
        after = replace(after, provider_id=report.provider_id)
    if report.category is not None and record.category is None:
        after = replace(after, category=report.category)
    if report.status.rank > Delivery(record.status).rank:
        failed = report.status is Delivery.FAILED
        after = replace(
            after,
            status=status,
            code=report.code if failed else None,
            error_class=report.error_class if failed else None,
        )
    return record if after == record else replace(after, changed_at=now)
