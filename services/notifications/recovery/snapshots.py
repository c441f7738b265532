"""Snapshots: notifications published as they are stored, which is without text and address."""

from __future__ import annotations

from typing import Final

from services.notifications.core.domain import State
from services.notifications.core.store import NOTIFICATIONS
from services.shared.contracts.notifications import NotificationSnapshot
from services.shared.database import Document
from services.shared.runtime import Source

_DERIVED: Final = {"notification_id", "state", "sender", "attempts"}
_AS_STORED: Final = tuple(name for name in NotificationSnapshot.model_fields if name not in _DERIVED)


def notification(row: Document) -> tuple[NotificationSnapshot, int]:
    """`sending` is internal: other services see `queued` until the result is known."""
    attempts = row["attempts"]
    snapshot = NotificationSnapshot(
        notification_id=row["_id"],
        state=State.QUEUED.value if State(row["state"]).is_open else row["state"],
        sender=attempts[-1]["sender"] if attempts else None,
        attempts=len(attempts),
        **{name: row.get(name) for name in _AS_STORED},
    )
    return snapshot, row["sequence"]


SOURCES: Final = (
    Source(NOTIFICATIONS, "unit", (*_AS_STORED, "state", "attempts", "sequence"), notification),
)
