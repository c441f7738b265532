"""A notification as callers see it: without its text or an address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import BaseModel

from services.notifications.core.domain import OUTCOME_UNKNOWN, Attempt, Notification, OutcomeClass, State
from services.notifications.tracking.service import Holdings


class AttemptOut(BaseModel):
    """`error_class` is there unless it was sent. While nobody knows whether a gateway has taken the message,
    `outcome` is `transient` and `error_class` is `outcome_unknown`; it is not sent again."""

    at: datetime
    sender: str
    outcome: Literal["sent", "transient", "permanent"]
    error_class: str | None = None


class NotificationOut(BaseModel):
    """`language` is that of the text, `reason` why it was suppressed or failed, `held_for` why it waits
    for an event, `deferred_for` why it waits for a time, `without` what a welcome went without."""

    id: str
    member_id: str
    purpose: str
    template: str
    language: str
    channel: str | None
    state: State
    reason: str | None = None
    held_for: str | None = None
    deferred_for: str | None = None
    without: str | None = None
    attempts: list[AttemptOut]
    created_at: datetime
    updated_at: datetime


_ALWAYS: Final = tuple(name for name, field in NotificationOut.model_fields.items() if field.is_required())
_UNLESS_NONE: Final = tuple(name for name in NotificationOut.model_fields if name not in _ALWAYS)


def notification_out(notification: Notification) -> dict[str, Any]:
    """Attempts stay dataclasses, which orjson writes by itself."""
    answer = {name: getattr(notification, name) for name in _ALWAYS}
    answer["attempts"] = [_shown(attempt) for attempt in notification.attempts]
    for name in _UNLESS_NONE:
        if (value := getattr(notification, name)) is not None:
            answer[name] = value
    return answer


def _shown(attempt: Attempt) -> Attempt:
    """Callers know three outcomes since release 0.1.0."""
    if attempt.outcome is not OutcomeClass.UNKNOWN:
        return attempt
    return replace(attempt, outcome=OutcomeClass.TRANSIENT, error_class=OUTCOME_UNKNOWN)


class DecisionOut(BaseModel):
    """A decision of the send policy about it that was acted on: `rule` decided, `rules` and `policy` are the
    versions of the rules and of the policies."""

    at: datetime
    verdict: Literal["send", "defer", "hold", "suppress"]
    rule: str | None
    reason: str | None
    channel: str | None
    until: datetime | None
    rules: int
    policy: int


class DetailOut(NotificationOut):
    """`decisions` are the newest twenty, the oldest of them first; a repeated one is kept once."""

    decisions: list[DecisionOut]


def detail_out(notification: Notification) -> dict[str, Any]:
    return notification_out(notification) | {"decisions": list(notification.decisions or ())}


class ReasonCount(BaseModel):
    """`held` ones wait for an event, `deferred` ones for a time; the others that are not finished are `due`
    or tried again."""

    state: Literal["held", "deferred", "due", "failed", "suppressed"]
    reason: str | None
    count: int


class NotificationSummaryOut(BaseModel):
    items: list[ReasonCount]


def count_out(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row["_id"], "count": row["count"]}


class RecipientHeld(BaseModel):
    """A member as the events have told; `adult` is null if they did not tell."""

    active: bool
    unit: str
    language: str
    adult: bool | None = None
    channels: list[str]
    group_id: str | None


class MessageHeld(NotificationOut):
    """`address` and `text` are there if the text was kept, which only the recording sender does."""

    address: str | None
    text: str | None


class DeliveryHeld(BaseModel):
    """A message that a gateway got: `reached` has the time of each status that was told of it."""

    notification_id: str
    channel: str
    sender: str
    status: str
    reached: dict[str, datetime]


class HoldingsOut(BaseModel):
    """All that this service holds about a member: `messages` are the newest of `total`, and `deliveries` the
    newest of the last 90 days, at most 1,000 each."""

    member_id: str
    recipient: RecipientHeld | None
    messages: list[MessageHeld]
    total: int
    deliveries: list[DeliveryHeld]


def holdings_out(member_id: str, held: Holdings) -> dict[str, Any]:
    row = held.recipient
    nothing: dict[str, Any] = {"address": None, "text": None}
    return {
        "member_id": member_id,
        "recipient": {name: row.get(name) for name in RecipientHeld.model_fields} if row else None,
        "messages": [notification_out(each) | held.kept.get(each.id, nothing) for each in held.messages],
        "total": held.total,
        "deliveries": [{name: row[name] for name in DeliveryHeld.model_fields} for row in held.deliveries],
    }
