"""Snapshots: notifications published as they are stored, which is without text and address."""

from __future__ import annotations

from typing import Final

from services.notifications.core.domain import State
from services.shared.contracts.notifications import NotificationSnapshot
from services.shared.database import Document
from services.shared.operations.republish import Source

_FIELDS: Final = (
    "member_id",
    "unit",
    "purpose",
    "template",
    "language",
    "channel",
    "state",
    "reason",
    "held_for",
    "attempts",
    "created_at",
    "sequence",
)


def notification(row: Document) -> tuple[NotificationSnapshot, int]:
    """`sending` is internal: other services see `queued` until the result is known."""
    attempts = row["attempts"]
    snapshot = NotificationSnapshot(
        notification_id=row["_id"],
        member_id=row["member_id"],
        unit=row["unit"],
        purpose=row["purpose"],
        template=row["template"],
        language=row["language"],
        channel=row.get("channel"),
        state=State.QUEUED.value if State(row["state"]).is_open else row["state"],
        reason=row.get("reason"),
        held_for=row.get("held_for"),
        sender=attempts[-1]["sender"] if attempts else None,
        attempts=len(attempts),
        created_at=row["created_at"],
    )
    return snapshot, row["sequence"]


SOURCES: Final = (Source("notifications", "unit", _FIELDS, notification),)
