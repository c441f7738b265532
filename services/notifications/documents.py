"""Notifications and recipients as MongoDB documents, and back."""

from __future__ import annotations

from dataclasses import asdict, fields

from services.notifications.domain import Attempt, Cause, Notification, OutcomeClass, State
from services.notifications.recipients import Recipient
from services.shared.database import Document

_PLAIN = tuple(f.name for f in fields(Notification) if f.name not in ("id", "state", "attempts", "cause"))
_RECIPIENT = tuple(f.name for f in fields(Recipient) if f.name not in ("member_id", "channels"))


def row_of_recipient(recipient: Recipient) -> Document:
    row: Document = {name: getattr(recipient, name) for name in _RECIPIENT}
    return {"_id": recipient.member_id, **row, "channels": list(recipient.channels)}


def recipient_of(row: Document) -> Recipient:
    known = {name: row[name] for name in _RECIPIENT if name in row}
    return Recipient(member_id=row["_id"], channels=tuple(row["channels"]), **known)


def row_of_notification(notification: Notification) -> Document:
    """Fields without a value are left out; `open` is there while anything can still happen."""
    n = notification
    row: Document = {"_id": n.id, "state": n.state.value}
    row |= {name: value for name in _PLAIN if (value := getattr(n, name)) is not None}
    row["attempts"] = [_row_of_attempt(attempt) for attempt in n.attempts]
    row["cause"] = asdict(n.cause)
    if n.state.is_open:
        row["open"] = True
    return row


def notification_of(row: Document) -> Notification:
    plain: Document = {name: row.get(name) for name in _PLAIN}
    attempts = tuple(
        Attempt(a["at"], a["sender"], OutcomeClass(a["outcome"]), a.get("error_class"))
        for a in row["attempts"]
    )
    return Notification(
        id=row["_id"], state=State(row["state"]), attempts=attempts, cause=Cause(**row["cause"]), **plain
    )


def _row_of_attempt(attempt: Attempt) -> Document:
    row: Document = {"at": attempt.at, "sender": attempt.sender, "outcome": attempt.outcome.value}
    return row if attempt.error_class is None else {**row, "error_class": attempt.error_class}
