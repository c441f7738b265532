"""What callers see of a notification: neither its text nor an address."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from services.notifications.domain import Notification, OutcomeClass, State


class AttemptOut(BaseModel):
    """`error_class` is there unless it was sent."""

    at: datetime
    sender: str
    outcome: OutcomeClass
    error_class: str | None = None


class NotificationOut(BaseModel):
    """`language` is that of the text. `reason` says why it is suppressed or failed, `held_for` what it waits for."""

    id: str
    member_id: str
    purpose: str
    template: str
    language: str
    channel: str | None
    state: State
    reason: str | None = None
    held_for: str | None = None
    attempts: list[AttemptOut]
    created_at: datetime
    updated_at: datetime


def notification_out(notification: Notification) -> dict[str, Any]:
    """Attempts are dataclasses, which orjson writes by itself."""
    n = notification
    answer: dict[str, Any] = {
        "id": n.id,
        "member_id": n.member_id,
        "purpose": n.purpose,
        "template": n.template,
        "language": n.language,
        "channel": n.channel,
        "state": n.state,
        "attempts": n.attempts,
        "created_at": n.created_at,
        "updated_at": n.updated_at,
    }
    if n.reason is not None:
        answer["reason"] = n.reason
    if n.held_for is not None:
        answer["held_for"] = n.held_for
    return answer
