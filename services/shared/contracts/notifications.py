"""Events of the notifications service: the life of one notification, without its text or address."""

from __future__ import annotations

from typing import Final

from services.shared.contracts.base import Event
from services.shared.contracts.erasure import ErasureAcknowledged
from services.shared.contracts.vocabulary import (
    AnyTime,
    Attempts,
    EventUnit,
    Id,
    LanguageCode,
    PastTime,
    Word,
    Words,
)

TOPIC = "sangathan.notifications"
INVITE: Final = "invite"
"""The template of an invite that is sent again; its purpose is that of a reminder."""
PROMISED: Final = "promised_invite"
"""The template of the invite that follows a welcome which went without one; its purpose is the welcome's."""


class _Notification(Event):
    """`group_id` is the chat group to which it invites, if it does."""

    notification_id: Id
    member_id: Id
    unit: EventUnit
    purpose: Word
    template: Word
    language: LanguageCode
    channel: Word | None = None
    group_id: Id | None = None


class NotificationQueued(_Notification, type="notification.queued", topic=TOPIC, subject="notification_id"):
    """The notification will be sent as soon as nothing holds it back. `held_for` says what it waits for, if
    anything."""

    held_for: Word | None = None


class NotificationDeferred(
    _Notification, type="notification.deferred", topic=TOPIC, subject="notification_id"
):
    """The notification will not be sent before `until`. `reason` is the rule of the send policy that defers
    it: `quiet_hours`, `frequency_cap`, `budget`, `breaker` (its channel is stopped for a time), or the error
    of a channel that is tried again then. Published once for each reason, and not for less than a minute."""

    reason: Word
    until: AnyTime


class NotificationSuppressed(
    _Notification, type="notification.suppressed", topic=TOPIC, subject="notification_id"
):
    """The notification will not be sent; `reason` is `no_consent`, `no_address`, `no_number`, `left`,
    `not_announced` (imported without an announcement), `expired` (it could not go in time) or, of an invite,
    `welcome_pending`, `joined` or `no_seat`."""

    reason: Word


class NotificationSent(_Notification, type="notification.sent", topic=TOPIC, subject="notification_id"):
    """The sender accepted the notification. `attempts` counts tries, from 1. `without` is `no_group` or
    `no_invite` for a welcome that waited too long for it and went without: it invited to no group, and an
    invite follows."""

    sender: Word
    attempts: Attempts
    without: Word | None = None


class NotificationFailed(_Notification, type="notification.failed", topic=TOPIC, subject="notification_id"):
    """The sender refused the notification for good, or the tries ran out. `error_class` is a slug, never a
    provider's text."""

    sender: Word
    attempts: Attempts
    error_class: Word


class NotificationSnapshot(
    _Notification, type="notification.snapshot", topic=TOPIC, subject="notification_id"
):
    """The current state of the notification, for a consumer that has lost its own state; nothing happened.
    `state` is `queued`, `sent`, `failed` or `suppressed`; `reason` is set for the last two; `sender` is that
    of the last try; `without` is as in `notification.sent`."""

    state: Word
    reason: Word | None = None
    held_for: Word | None = None
    sender: Word | None = None
    attempts: Attempts = 0
    created_at: PastTime
    without: Word | None = None


class _OfMember(Event):
    """About a member; the sequence counts the events that this service publishes about them."""

    member_id: Id
    unit: EventUnit
    channel: Word


class MemberOptedOut(_OfMember, type="member.opted_out", topic=TOPIC, subject="member_id"):
    """The member has stopped messages on a channel: nothing of these `purposes` goes there any more. `via`
    says how: `stop` (a word), `button`, `missed_call`, `unsubscribe`, or `preference` (a switch of the
    provider's own)."""

    purposes: Words
    via: Word


class MemberReplied(_OfMember, type="member.replied", topic=TOPIC, subject="member_id"):
    """The member has answered or written (`kind`: `text`, `button` or `missed_call`). `notification_id` is
    the message that was answered, if the provider tells."""

    reply_id: Id
    kind: Word
    notification_id: Id | None = None


class MemberUnreachable(_OfMember, type="member.unreachable", topic=TOPIC, subject="member_id"):
    """A message did not reach the member on this channel, and the next one would not either; it is no
    opt-out. `reason` is a slug, never a provider's text."""

    reason: Word
    notification_id: Id | None = None


class NotificationsErasureAcknowledged(
    ErasureAcknowledged, type="notifications.erasure_acknowledged", topic=TOPIC, subject="erasure_id"
):
    """Notifications has destroyed the texts and addresses of messages to the member, and will write to them
    no more."""
