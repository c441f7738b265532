"""The life of a notification: queued -> sending -> sent | failed | suppressed. Pure: the time and the ids come in.

Each function answers a `Step`: the notification as it is now, and the event that says so, if the change is one that
others hear of. An event's sequence is the notification's `sequence` after it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

from services.notifications.gate import Facts, Ruling, Verdict, judge
from services.notifications.recipients import Recipient
from services.shared.contracts.base import Event
from services.shared.contracts.notifications import (
    NotificationFailed,
    NotificationQueued,
    NotificationSent,
    NotificationSuppressed,
)
from services.shared.contracts.vocabulary import Purpose

WELCOME: Final = Purpose.WELCOME.value
TRIES_EXHAUSTED: Final = "tries_exhausted"


class State(StrEnum):
    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    SUPPRESSED = "suppressed"

    @property
    def is_open(self) -> bool:
        """Whether anything can still happen to it."""
        return self in (State.QUEUED, State.SENDING)


class OutcomeClass(StrEnum):
    SENT = "sent"
    TRANSIENT = "transient"
    """May go through later: busy, throttled, out of reach."""
    PERMANENT = "permanent"
    """Will never go through as it is."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one try. `error_class` is a word of ours, never a provider's text; None when sent."""

    kind: OutcomeClass
    error_class: str | None = None


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


@dataclass(frozen=True, slots=True)
class Notification:
    """`language` is that of the text, after the fallback; `due_at` is when the dispatcher must look at it: the time of
    the next try, or the end of the running claim, or None when an event has to come first or nothing is left to do."""

    id: str
    member_id: str
    unit: str
    purpose: str
    template: str
    language: str
    channel: str | None
    group_id: str | None
    state: State
    cause: Cause
    created_at: datetime
    updated_at: datetime
    reason: str | None = None
    held_for: str | None = None
    stop: str | None = None
    """Why it must not be tried again, when that was learnt while it was being sent."""
    attempts: tuple[Attempt, ...] = ()
    due_at: datetime | None = None
    claim: str | None = None
    sequence: int = 0


class Step(NamedTuple):
    notification: Notification
    event: Event | None = None


def welcome(
    id_: str, recipient: Recipient, *, invited: bool, language: str, cause: Cause, now: datetime
) -> Step:
    """The one welcome of a member who joined. `invited`: the member's group has an invite link."""
    verdict = _before_sending(recipient, invited)
    made = Notification(
        id=id_,
        member_id=recipient.member_id,
        unit=recipient.unit,
        purpose=WELCOME,
        template=WELCOME,
        language=language,
        channel=verdict.channel,
        group_id=recipient.group_id,
        state=State.QUEUED,
        cause=cause,
        created_at=now,
        updated_at=now,
    )
    if verdict.ruling is Ruling.SUPPRESS:
        return _suppressed(made, verdict.reason, now)
    held_for = verdict.reason
    queued = replace(made, held_for=held_for, due_at=None if held_for else now)
    return _announced(
        queued, NotificationQueued(**_common(queued), channel=queued.channel, held_for=held_for)
    )


def follow(
    current: Notification, recipient: Recipient, *, invited: bool, language: str, now: datetime
) -> Step:
    """The notification after its member moved, was placed anew, changed language or left.

    What is finished only follows the member's unit, which decides who may see it.
    """
    followed = replace(current, unit=recipient.unit)
    step = Step(followed)
    if current.state.is_open:
        verdict = _before_sending(recipient, invited)
        followed = replace(followed, language=language, channel=verdict.channel, group_id=recipient.group_id)
        step = _ruled(followed, verdict, now)
    if step.notification == current:
        return Step(current)
    return Step(replace(step.notification, updated_at=now), step.event)


def _ruled(current: Notification, verdict: Verdict, now: datetime) -> Step:
    queued = current.state is State.QUEUED
    match verdict.ruling:
        case Ruling.SUPPRESS if queued:
            return _suppressed(current, verdict.reason, now)
        case Ruling.SUPPRESS:
            return Step(replace(current, stop=verdict.reason))
        case Ruling.HOLD:
            # While it is being sent, `due_at` is the end of the claim.
            return Step(replace(current, held_for=verdict.reason, due_at=None if queued else current.due_at))
        case Ruling.ALLOW:
            return Step(replace(current, held_for=None, due_at=current.due_at or now))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`tries` in all; the pause doubles from `first_seconds` to at most an hour. Without jitter: what comes due
    together is sent in batches anyway."""

    tries: int
    first_seconds: float

    def next_try(self, tried: int, now: datetime) -> datetime:
        return now + timedelta(seconds=min(3600.0, self.first_seconds * 2 ** (tried - 1)))


@dataclass(frozen=True, slots=True)
class Tried:
    """The sender had it."""

    outcome: Outcome
    sender: str
    channel: str
    language: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The send gate suppressed it."""

    reason: str
    channel: str | None


@dataclass(frozen=True, slots=True)
class Postponed:
    """Nothing was tried; look again at `until` unless an event is awaited."""

    until: datetime


Result: TypeAlias = Tried | Refused | Postponed


def conclude(claimed: Notification, result: Result, *, policy: RetryPolicy, now: datetime) -> Step:
    """The notification after the dispatcher had it."""
    match result:
        case Tried():
            return _tried(claimed, result, policy, now)
        case Refused(reason, channel):
            return _suppressed(replace(claimed, channel=channel), reason, now)
        case Postponed(until):
            return _queued_again(claimed, until, now)


def _tried(claimed: Notification, tried: Tried, policy: RetryPolicy, now: datetime) -> Step:
    outcome = tried.outcome
    attempt = Attempt(now, tried.sender, outcome.kind, outcome.error_class)
    attempts = (*claimed.attempts, attempt)
    current = replace(claimed, attempts=attempts, channel=tried.channel, language=tried.language)
    if outcome.kind is OutcomeClass.SENT:
        sent = _closed(current, State.SENT, None, now)
        return _announced(
            sent,
            NotificationSent(
                **_common(sent), channel=sent.channel, sender=tried.sender, attempts=len(attempts)
            ),
        )
    if outcome.kind is OutcomeClass.TRANSIENT and len(attempts) < policy.tries:
        return _queued_again(current, policy.next_try(len(attempts), now), now)
    lasting = outcome.kind is OutcomeClass.PERMANENT
    error_class = (outcome.error_class or "refused") if lasting else TRIES_EXHAUSTED
    failed = _closed(current, State.FAILED, error_class, now)
    event = NotificationFailed(
        **_common(failed),
        channel=failed.channel,
        sender=tried.sender,
        attempts=len(attempts),
        error_class=error_class,
    )
    return _announced(failed, event)


def _queued_again(current: Notification, due_at: datetime, now: datetime) -> Step:
    if current.stop is not None:
        return _suppressed(current, current.stop, now)
    due = None if current.held_for else due_at
    return Step(replace(current, state=State.QUEUED, claim=None, due_at=due, updated_at=now))


def _suppressed(current: Notification, reason: str | None, now: datetime) -> Step:
    word = reason or "unknown"
    suppressed = _closed(current, State.SUPPRESSED, word, now)
    event = NotificationSuppressed(**_common(suppressed), channel=suppressed.channel, reason=word)
    return _announced(suppressed, event)


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


def _announced(current: Notification, event: Event) -> Step:
    return Step(replace(current, sequence=current.sequence + 1), event)


def _before_sending(recipient: Recipient, invited: bool) -> Verdict:
    return judge(
        Facts(
            active=recipient.active,
            consented=recipient.channels,
            addressable=None,
            group_id=recipient.group_id,
            invited=invited,
        )
    )


def _common(current: Notification) -> dict[str, str]:
    return {
        "notification_id": current.id,
        "member_id": current.member_id,
        "unit": current.unit,
        "purpose": current.purpose,
        "template": current.template,
        "language": current.language,
    }
