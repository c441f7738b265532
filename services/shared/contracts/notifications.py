"""Events of the notifications service: the life of one notification, without its text or address."""

from __future__ import annotations

from datetime import datetime

from services.shared.contracts.base import Event

TOPIC = "sangathan.notifications"


class _Notification(Event):
    notification_id: str
    member_id: str
    unit: str
    purpose: str
    template: str
    language: str
    channel: str | None = None


class NotificationQueued(_Notification, type="notification.queued", topic=TOPIC, subject="notification_id"):
    """The notification will be sent as soon as nothing holds it back. `held_for` says what it waits for, if
    anything."""

    held_for: str | None = None


class NotificationSuppressed(
    _Notification, type="notification.suppressed", topic=TOPIC, subject="notification_id"
):
    """The notification will not be sent; `reason` is `no_consent`, `no_address` or `left`."""

    reason: str


class NotificationSent(_Notification, type="notification.sent", topic=TOPIC, subject="notification_id"):
    """The sender accepted the notification. `attempts` counts tries, from 1."""

    sender: str
    attempts: int


class NotificationFailed(_Notification, type="notification.failed", topic=TOPIC, subject="notification_id"):
    """The sender refused the notification for good, or the tries ran out. `error_class` is a slug, never a
    provider's text."""

    sender: str
    attempts: int
    error_class: str


class NotificationSnapshot(
    _Notification, type="notification.snapshot", topic=TOPIC, subject="notification_id"
):
    """The current state of the notification, for a consumer that has lost its own state; nothing happened.
    `state` is `queued`, `sent`, `failed` or `suppressed`; `reason` is set for the last two; `sender` is that
    of the last try."""

    state: str
    reason: str | None = None
    held_for: str | None = None
    sender: str | None = None
    attempts: int = 0
    created_at: datetime
