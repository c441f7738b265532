"""The life of a notification: queued -> sending -> sent | failed | suppressed. Pure: time and ids are given.

Each function answers a `Step`: the notification as it is now, and an event if other services hear of the
change. The event's sequence is the notification's `sequence` after it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, TypeAlias
from uuid import UUID, uuid5

from services.notifications.core.recipients import Recipient
from services.notifications.core.send_policy import NO_ADDRESS, Ruling, Verdict, facts_heard, judge
from services.shared.contracts.base import Event, Numbered, Step
from services.shared.contracts.notifications import (
    NotificationFailed,
    NotificationQueued,
    NotificationSent,
    NotificationSuppressed,
)
from services.shared.contracts.vocabulary import Purpose

WELCOME: Final = Purpose.WELCOME.value
INVITE: Final = "invite"
"""The template of an invite that is sent again; its purpose is that of a reminder."""
SERVICE: Final = "service"
"""The purpose of the few messages that need no consent, because they answer what the person has just done. It
is no `Purpose`: nobody consents to it, and nothing else may use it."""
STOPPED: Final = "stopped"
"""The template that confirms a stop."""
EXPIRED: Final = "expired"
TRIES_EXHAUSTED: Final = "tries_exhausted"
REOPENS_FOR: Final = timedelta(days=1)
"""How long a welcome that was suppressed by the events alone may still go: nobody is welcomed days later."""
_NAMESPACE: Final = UUID("5d4a4c8e-8a35-5a0f-9d55-6f6f7c1f2b61")
"""The namespace of the ids of notifications (RFC 9562, 5.5); it never changes."""
UNRECORDABLE: Final = "unrecordable"
"""The result of a try, or the event that tells of it, cannot be written."""


class State(StrEnum):
    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    SUPPRESSED = "suppressed"

    @property
    def is_open(self) -> bool:
        """Whether anything can still happen to the notification."""
        return self in (State.QUEUED, State.SENDING)


class OutcomeClass(StrEnum):
    SENT = "sent"
    TRANSIENT = "transient"
    """May go through later: the provider is busy, throttles or is out of reach."""
    PERMANENT = "permanent"
    """Will never go through as it is."""
    UNKNOWN = "unknown"
    """The provider may have taken it: a callback or a poll tells. Until then it is not sent again."""


class Meaning(StrEnum):
    """The action that a provider's error asks of us. Each channel has one table from its codes to these."""

    RETRY = "retry"
    """Busy, throttled or failing for a moment: again, after a growing pause."""
    DEFER = "defer"
    """Not before a day has passed, as for a limit of messages to one person."""
    PAIR = "pair"
    """Too many messages to this recipient from us: again, slower, this recipient alone."""
    RECIPIENT = "recipient"
    """This address is not reached on this channel; it is no opt-out. Another channel may."""
    ROUTE = "route"
    """This kind of message does not go this way to this address; it says nothing about the address."""
    MESSAGE = "message"
    """This message fails as it is."""
    TEMPLATE = "template"
    """No message of this template goes: its breaker opens."""
    CHANNEL = "channel"
    """No message of this account or number goes: its breaker opens, and somebody must act."""
    CONSENT = "consent"
    """The recipient has stopped these messages at the provider."""
    BUG = "bug"
    """We have asked for something that the provider does not understand."""


@dataclass(frozen=True, slots=True)
class SendOutcome:
    """The result of one try. `error_class` is a word of ours, never a provider's text; None when sent.

    `meaning` is what the error asks of us, by the channel's table; `provider_id` names the message in the
    provider's callbacks and polls; `retry_after` is how many seconds the provider asks us to wait.
    """

    kind: OutcomeClass
    error_class: str | None = None
    meaning: Meaning | None = None
    provider_id: str | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    at: datetime
    sender: str
    outcome: OutcomeClass
    error_class: str | None = None


@dataclass(frozen=True, slots=True)
class Cause:
    """The request and the event that the notification exists for; its later events name them."""

    correlation_id: str
    traceparent: str
    causation_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One message to one member, without its text or address. `language` is that of the text."""

    id: str
    member_id: str
    unit: str
    purpose: str
    template: str
    language: str
    channel: str | None = None
    group_id: str | None = None
    state: State
    reason: str | None = None
    """Why it was suppressed or failed."""
    held_for: str | None = None
    """The reason to wait: an event that has not come yet."""
    stop: str | None = None
    """Why it must not be tried again; learnt while it was being sent."""
    hearsay: bool | None = None
    """True if it was suppressed by what the events say, without asking the members service."""
    attempts: tuple[Attempt, ...] = ()
    due_at: datetime | None = None
    """When the dispatcher must look at it: the time of the next try, the end of the running claim, or, while
    an event has to come first, the time at which it expires.

    None when nothing is left to do, and while one that does not expire waits.
    """
    claim: str | None = None
    expires_at: datetime | None = None
    """After this it goes no more. None for a welcome of release 0.1.0, which waits without an end."""
    sequence: int = 0
    cause: Cause
    created_at: datetime
    updated_at: datetime


def notification_id(purpose: str, cause: str, member_id: str) -> str:
    """The id of what `cause` makes for a member: made twice, it is made once."""
    return str(uuid5(_NAMESPACE, f"{purpose}/{cause}/{member_id}"))


def queue_welcome(
    recipient: Recipient, *, invited: bool, language: str, cause: Cause, now: datetime, expires_at: datetime
) -> Step[Notification]:
    """The one welcome of a member who joined. `invited`: the member's group has an invite link."""
    made = Notification(
        id=notification_id(WELCOME, "joined", recipient.member_id),
        member_id=recipient.member_id,
        unit=recipient.unit,
        purpose=WELCOME,
        template=WELCOME,
        language=language,
        group_id=recipient.group_id,
        state=State.QUEUED,
        cause=cause,
        created_at=now,
        updated_at=now,
        expires_at=expires_at,
    )
    return queue(made, judge(facts_heard(recipient, invited=invited)), now)


def queue(made: Notification, verdict: Verdict, now: datetime) -> Step[Notification]:
    """A new notification of any purpose, as far as the events allow it."""
    made = replace(made, channel=verdict.channel)
    if verdict.ruling is Ruling.SUPPRESS:
        return _suppressed(made, verdict.reason, now, hearsay=True)
    return _queued(made, verdict, now)


def withdraw(current: Notification, reason: str, now: datetime) -> Step[Notification]:
    """There is no reason for it any more. One that is being sent is not tried again."""
    if current.state is State.QUEUED:
        return _suppressed(current, reason, now, hearsay=False)
    return Step(replace(current, stop=reason, updated_at=now) if current.state.is_open else current)


def follow(
    current: Notification, recipient: Recipient, *, invited: bool, language: str, now: datetime
) -> Step[Notification]:
    """The notification after its member moved, was placed in another group, changed language or left.

    A finished one only follows the member's unit, which decides who may see it. But one that the events alone
    suppressed is queued again when they no longer do: those may have been forged, and whether it goes is for
    the members service to say.
    """
    followed = replace(current, unit=recipient.unit)
    step = Step(followed)
    reopens = bool(current.hearsay) and now - current.created_at < REOPENS_FOR
    if current.state.is_open or reopens:
        verdict = judge(facts_heard(recipient, invited=invited))
        changed = replace(followed, language=language, channel=verdict.channel, group_id=recipient.group_id)
        if current.state.is_open:
            step = _apply_verdict(changed, verdict, now)
        elif verdict.ruling is not Ruling.SUPPRESS:
            step = _queued(replace(changed, reason=None, hearsay=None), verdict, now)
    if step.state == current:
        return Step(current)
    return Step(replace(step.state, updated_at=now), step.events)


def _apply_verdict(current: Notification, verdict: Verdict, now: datetime) -> Step[Notification]:
    queued = current.state is State.QUEUED
    match verdict.ruling:
        case Ruling.SUPPRESS if queued:
            return _suppressed(current, verdict.reason, now, hearsay=True)
        case Ruling.SUPPRESS:
            return Step(replace(current, stop=verdict.reason))
        case Ruling.HOLD:
            # While it is being sent, `due_at` is the end of the claim.
            due_at = current.expires_at if queued else current.due_at
            return Step(replace(current, stop=None, held_for=verdict.reason, due_at=due_at))
        case Ruling.ALLOW:
            waits = current.due_at is None or (queued and current.held_for)
            due_at = now if waits else current.due_at
            return Step(replace(current, stop=None, held_for=None, due_at=due_at))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `tries` tries; the pause doubles from `first_seconds` to an hour.

    There is no jitter: notifications that come due together are sent in batches anyway.
    """

    tries: int
    first_seconds: float

    def next_try(self, tried: int, now: datetime) -> datetime:
        return now + timedelta(seconds=min(3600.0, self.first_seconds * 2 ** (tried - 1)))


@dataclass(frozen=True, slots=True)
class Attempted:
    """It was handed to the sender, or its text could not be rendered: this counts as a try."""

    outcome: SendOutcome
    sender: str
    channel: str
    language: str
    unit: str
    """The member's unit as the members service says now; so in `Suppressed`."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Another service, `peer`, gave no answer about this one, while it answers about others.

    Counts as a try, so that it does not go on for ever; the last one fails with `reason`.
    """

    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Suppressed:
    """The send policy forbids it for good. `unit` is None if the members service has not been asked."""

    reason: str
    channel: str | None
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Deferred:
    """Nothing was tried; look again at `until`, unless an event has to come first."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Held:
    """It waits for an event; look again at `until`, because that may have come while it was looked at."""

    reason: str
    until: datetime


DispatchResult: TypeAlias = Attempted | Unanswered | Suppressed | Deferred | Held


def conclude(
    claimed: Notification, result: DispatchResult, *, policy: RetryPolicy, now: datetime
) -> Step[Notification]:
    """The notification after the dispatcher handled it."""
    if claimed.held_for == NO_ADDRESS:  # it was claimed to look again
        claimed = replace(claimed, held_for=None)
    match result:
        case Attempted(outcome, sender, channel, language, unit):
            current = replace(claimed, channel=channel, language=language, unit=unit)
            return _tried(current, outcome, sender, policy, now)
        case Unanswered(peer, reason):
            outcome = SendOutcome(OutcomeClass.TRANSIENT, reason)
            return _tried(claimed, outcome, peer, policy, now, exhausted=reason)
        case Suppressed(reason, channel, unit):
            known = replace(claimed, channel=channel, unit=unit or claimed.unit)
            return _suppressed(known, reason, now, hearsay=unit is None)
        case Deferred(until):
            return _queued_again(claimed, until, now)
        case Held(reason, until):
            return _queued_again(replace(claimed, held_for=claimed.held_for or reason), until, now)


def _tried(
    claimed: Notification,
    outcome: SendOutcome,
    sender: str,
    policy: RetryPolicy,
    now: datetime,
    *,
    exhausted: str = TRIES_EXHAUSTED,
) -> Step[Notification]:
    """`exhausted` is why it fails when this was the last try."""
    attempts = (*claimed.attempts, Attempt(now, sender, outcome.kind, outcome.error_class))
    current = replace(claimed, attempts=attempts)
    if outcome.kind is OutcomeClass.SENT:
        sent = _closed(current, State.SENT, None, now)
        return _published(
            sent,
            NotificationSent(**_common(sent), channel=sent.channel, sender=sender, attempts=len(attempts)),
        )
    if outcome.kind is OutcomeClass.TRANSIENT and len(attempts) < policy.tries:
        return _queued_again(current, policy.next_try(len(attempts), now), now)
    permanent = outcome.kind is OutcomeClass.PERMANENT
    error_class = (outcome.error_class or "refused") if permanent else exhausted
    failed = _closed(current, State.FAILED, error_class, now)
    event = NotificationFailed(
        **_common(failed),
        channel=failed.channel,
        sender=sender,
        attempts=len(attempts),
        error_class=error_class,
    )
    return _published(failed, event)


def _queued(made: Notification, verdict: Verdict, now: datetime) -> Step[Notification]:
    held_for = verdict.reason
    queued = replace(made, state=State.QUEUED, held_for=held_for, due_at=made.expires_at if held_for else now)
    return _published(
        queued, NotificationQueued(**_common(queued), channel=queued.channel, held_for=held_for)
    )


def _queued_again(current: Notification, due_at: datetime, now: datetime) -> Step[Notification]:
    if current.stop is not None:
        return _suppressed(current, current.stop, now, hearsay=True)
    due = due_at if current.held_for in (None, NO_ADDRESS) else current.expires_at
    return Step(replace(current, state=State.QUEUED, claim=None, due_at=due, updated_at=now))


def _suppressed(
    current: Notification, reason: str | None, now: datetime, *, hearsay: bool
) -> Step[Notification]:
    word = reason or "unknown"
    suppressed = replace(_closed(current, State.SUPPRESSED, word, now), hearsay=hearsay or None)
    event = NotificationSuppressed(**_common(suppressed), channel=suppressed.channel, reason=word)
    return _published(suppressed, event)


def _closed(current: Notification, state: State, reason: str | None, now: datetime) -> Notification:
    return replace(
        current,
        state=state,
        reason=reason,
        held_for=None,
        stop=None,
        due_at=None,
        claim=None,
        updated_at=now,
    )


def _published(current: Notification, event: Event) -> Step[Notification]:
    after = replace(current, sequence=current.sequence + 1)
    return Step(after, (Numbered(event, after.sequence),))


def _common(current: Notification) -> dict[str, str | None]:
    return {
        "notification_id": current.id,
        "member_id": current.member_id,
        "unit": current.unit,
        "purpose": current.purpose,
        "template": current.template,
        "language": current.language,
        "group_id": current.group_id,
    }
