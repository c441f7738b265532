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
from zlib import crc32

from services.notifications.core.recipients import Recipient
from services.notifications.core.send_policy import (
    NO_ADDRESS,
    NO_GATEWAY,
    About,
    Avoided,
    Ruling,
    Verdict,
    facts_heard,
    judge,
)
from services.shared.contracts.base import Event, Numbered, Step
from services.shared.contracts.notifications import (
    INVITE,
    PROMISED,
    NotificationDeferred,
    NotificationFailed,
    NotificationQueued,
    NotificationSent,
    NotificationSuppressed,
)
from services.shared.contracts.vocabulary import Purpose

WELCOME: Final = Purpose.WELCOME.value
STOPPED: Final = "stopped"
"""The template that confirms a stop."""
INVITES: Final = (INVITE, PROMISED)
TRIES_EXHAUSTED: Final = "tries_exhausted"
REOPENS_FOR: Final = timedelta(days=1)
"""How long a welcome that was suppressed by the events alone may still go: nobody is welcomed days later."""
_NAMESPACE: Final = UUID("5d4a4c8e-8a35-5a0f-9d55-6f6f7c1f2b61")
"""The namespace of the ids of notifications (RFC 9562, 5.5); it never changes."""
OUTCOME: Final = "outcome"
"""It was handed over, and nobody knows whether the provider took it."""
OUTCOME_UNKNOWN: Final = "outcome_unknown"
TEMPLATE_NOT_APPROVED: Final = "template_not_approved"
"""No channel that may be used has an approved version of the text, though its gateway asks for one."""
TEMPLATE_NOT_EXACT: Final = "template_not_exact"
"""With the values of this message it is not the text that was approved."""
LOOKED_AT_AGAIN: Final = (NO_ADDRESS, NO_GATEWAY, TEMPLATE_NOT_APPROVED, TEMPLATE_NOT_EXACT)
"""Reasons to hold a notification that is due all the same: the cure may bring no event."""
LOOK_FOR_OUTCOME: Final = timedelta(minutes=1)
"""When an outcome is first looked for in the delivery's record; then after pauses that double."""
A_DAY: Final = timedelta(days=1)
A_MINUTE: Final = timedelta(minutes=1)
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
    NUMBER = "number"
    """No message from this number goes: its breaker opens."""
    CHANNEL = "channel"
    """No message of this account goes: its breaker opens, and somebody must act."""
    CONSENT = "consent"
    """The recipient has stopped these messages at the provider."""
    BUG = "bug"
    """We have asked for something that the provider does not understand."""


AGAIN: Final = frozenset(
    {Meaning.RETRY, Meaning.PAIR, Meaning.DEFER, Meaning.TEMPLATE, Meaning.NUMBER, Meaning.CHANNEL}
)
"""Errors after which the same message may go later: those of a template, number or account when that is
well again."""


@dataclass(frozen=True, slots=True)
class SendOutcome:
    """The result of one try. `error_class` is a word of ours, never a provider's text; None when sent.

    `meaning` is what the error asks of us, by the channel's table; `provider_id` names the message in the
    provider's callbacks and polls; `retry_after` is how many seconds the provider asks us to wait; `code` is
    the provider's word or number for the error.
    """

    kind: OutcomeClass
    error_class: str | None = None
    meaning: Meaning | None = None
    provider_id: str | None = None
    retry_after: float | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    at: datetime
    sender: str
    outcome: OutcomeClass
    error_class: str | None = None


@dataclass(frozen=True, slots=True)
class Handed:
    """It is with a gateway, for the `number`th time: written before the gateway is called, and removed when
    its outcome is recorded. Whoever finds one does not send the message again."""

    number: int
    at: datetime
    sender: str
    channel: str
    without: str | None = None
    """Lacking in the text that it got: as in `Notification`."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A judgement of the send policy that was acted on: `verdict` is `send`, `defer`, `hold` or `suppress`,
    `rule` the one that decided, `rules` and `policy` the versions of the rules and of the policies."""

    at: datetime
    verdict: str
    rule: str | None
    reason: str | None
    channel: str | None
    until: datetime | None
    rules: int
    policy: int


DEFER: Final = "defer"
KEPT_DECISIONS: Final = 20
"""The newest of a notification; a repeated one is kept once."""


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
    handed: Handed | None = None
    forgiven: int | None = None
    """The attempts that no longer count, because it was sent again by hand after them."""
    avoided: tuple[Avoided, ...] | None = None
    deferred_for: str | None = None
    """The rule of the send policy that defers it until `due_at`. A change of the policies clears it."""
    decisions: tuple[Decision, ...] | None = None
    without: str | None = None
    """Lacking in a welcome that was sent: `no_group` or `no_invite`."""
    due_at: datetime | None = None
    """When the dispatcher must look at it: the time of the next try, the end of the running claim, the next
    look for an unknown outcome, or, while an event has to come first, the time at which it waits no longer
    (`waits_end`).

    None when nothing is left to do, and while one waits without an end.
    """
    claim: str | None = None
    waits_until: datetime | None = None
    """From then on a welcome waits no longer for a group or a link. None for any other message."""
    expires_at: datetime | None = None
    """After this it goes no more. None for a welcome of release 0.1.0."""
    sequence: int = 0
    cause: Cause
    created_at: datetime
    updated_at: datetime

    @property
    def last_handed(self) -> int:
        """The number of the last handing over: each ends in an attempt before the next begins."""
        return self.handed.number if self.handed else len(self.attempts)

    @property
    def tries(self) -> int:
        return len(self.attempts) - (self.forgiven or 0)

    def avoids(self, now: datetime) -> tuple[Avoided, ...]:
        """The channels that it does not go on now."""
        return tuple(each for each in self.avoided or () if each.until is None or each.until > now)

    def waited(self, now: datetime) -> bool:
        return self.waits_until is not None and self.waits_until <= now

    @property
    def waits_end(self) -> datetime | None:
        """When it waits no longer for an event: it goes without what it lacks, or goes no more."""
        return min((end for end in (self.waits_until, self.expires_at) if end is not None), default=None)

    def about(self, now: datetime) -> About:
        return About(self.purpose, self.template, self.group_id, self.waited(now), self.channel)


def notification_id(purpose: str, cause: str, member_id: str) -> str:
    """The id of what `cause` makes for a member: made twice, it is made once."""
    return str(uuid5(_NAMESPACE, f"{purpose}/{cause}/{member_id}"))


def promised_id(member_id: str) -> str:
    """The id of the invite that follows a member's welcome: there is one at most."""
    return notification_id(WELCOME, PROMISED, member_id)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a welcome waits for what it lacks, and how long after its making it may go at all."""

    waits: timedelta
    lives: timedelta


def queue_welcome(
    recipient: Recipient, *, invited: bool, language: str, cause: Cause, now: datetime, patience: Patience
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
        waits_until=now + patience.waits,
        expires_at=now + patience.lives,
    )
    return queue(made, judge(facts_heard(made.about(now), recipient, invited=invited)), now)


def queue_promised(
    recipient: Recipient, *, invited: bool, language: str, cause: Cause, now: datetime, expires_at: datetime
) -> Step[Notification]:
    """The invite that a welcome without one promised. Like the welcome, it invites to the group in which the
    member has a seat when it goes; unlike it, it goes with the link or not at all."""
    made = Notification(
        id=promised_id(recipient.member_id),
        member_id=recipient.member_id,
        unit=recipient.unit,
        purpose=WELCOME,
        template=PROMISED,
        language=language,
        group_id=recipient.group_id,
        state=State.QUEUED,
        cause=cause,
        created_at=now,
        updated_at=now,
        expires_at=expires_at,
    )
    return queue(made, judge(facts_heard(made.about(now), recipient, invited=invited)), now)


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
        verdict = judge(facts_heard(current.about(now), recipient, invited=invited))
        changed = replace(followed, language=language, channel=verdict.channel, group_id=recipient.group_id)
        if current.handed is not None:  # as it is; the news is for the next try, if there is one
            stop = verdict.reason if verdict.ruling is Ruling.SUPPRESS else None
            step = Step(replace(followed, stop=stop))
        elif current.state.is_open:
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
            due_at = current.waits_end if queued else current.due_at
            return Step(replace(current, stop=None, held_for=verdict.reason, due_at=due_at))
        case Ruling.ALLOW | Ruling.DEFER:  # it is deferred when it is due
            waits = current.due_at is None or (queued and current.held_for)
            due_at = now if waits else current.due_at
            return Step(replace(current, stop=None, held_for=None, due_at=due_at))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `tries` tries; the pause doubles from `first_seconds` to an hour, and is longer by a share of
    up to `spread`, so that what failed together does not come back together. An outcome may be unknown for as
    long as `outcome_wait`."""

    tries: int
    first_seconds: float
    spread: float = 0.0
    outcome_wait: timedelta = A_DAY

    def next_try(self, current: Notification, outcome: SendOutcome, now: datetime) -> datetime:
        """Meta asks for 4^x seconds after too many messages to one person; what a provider asks for is
        kept."""
        tried = current.tries
        paired = outcome.meaning is Meaning.PAIR
        pause = min(3600.0, 4.0**tried if paired else self.first_seconds * 2 ** (tried - 1))
        share = crc32(f"{current.id}/{tried}".encode()) / 2**32  # pure, and another one for each
        pause = max(pause * (1 + self.spread * share), outcome.retry_after or 0.0)
        return now + timedelta(seconds=pause)


@dataclass(frozen=True, slots=True)
class Attempted:
    """It was handed to the sender, or its text could not be rendered: this counts as a try."""

    outcome: SendOutcome
    sender: str
    channel: str
    language: str
    unit: str
    """The member's unit as the members service says now; so in `Suppressed`."""
    without: str | None = None
    """Lacking in the text; as in `Notification`."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Another service, `peer`, gave no answer about this one, while it answers about others.

    Counts as a try, so that it does not go on for ever; the last one fails with `reason`.
    """

    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Suppressed:
    """The send policy forbids it for good. `unit` is None if the members service has not been asked; then
    news of the member may change it, unless it is `final`."""

    reason: str
    channel: str | None
    unit: str | None = None
    final: bool = False


@dataclass(frozen=True, slots=True)
class Deferred:
    """Nothing was tried; look again at `until`, unless an event has to come first. `reason` is the rule of
    the send policy that defers it, if one does."""

    until: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """It waits for an event; look again at `until`, because that may have come while it was looked at."""

    reason: str
    until: datetime


@dataclass(frozen=True, slots=True)
class NotTaken:
    """The gateway has surely not taken it, and through no fault of its own: the gateway is out of reach, or
    its account, number or template is stopped. This counts as no try."""

    until: datetime


@dataclass(frozen=True, slots=True)
class NoWay:
    """It has failed on every channel that the member agreed to; `reason` is the last one's."""

    reason: str
    unit: str | None


DispatchResult: TypeAlias = Attempted | Unanswered | Suppressed | Deferred | Held | NotTaken | NoWay


def conclude(
    claimed: Notification,
    result: DispatchResult,
    *,
    policy: RetryPolicy,
    now: datetime,
    decision: Decision | None = None,
) -> Step[Notification]:
    """The notification after the dispatcher handled it. `decision`: of the send policy, if it was asked."""
    claimed = _deciding(claimed, decision)
    if claimed.held_for in LOOKED_AT_AGAIN:  # it was claimed to look again
        claimed = replace(claimed, held_for=None)
    if claimed.handed is not None and not isinstance(result, Attempted | NotTaken):
        return _unknown(claimed, claimed.handed, policy, now)
    match result:
        case Attempted(outcome, sender, channel, language, unit, without):
            current = replace(claimed, channel=channel, language=language, unit=unit)
            step = _tried(current, outcome, sender, policy, now, without=without)
        case Unanswered(peer, reason):
            outcome = SendOutcome(OutcomeClass.TRANSIENT, reason)
            step = _tried(claimed, outcome, peer, policy, now, exhausted=reason)
        case Suppressed(reason, channel, unit, final):
            known = replace(claimed, channel=channel, unit=unit or claimed.unit)
            step = _suppressed(known, reason, now, hearsay=unit is None and not final)
        case NotTaken(until):
            step = _queued_again(replace(claimed, handed=None), until, now)
        case NoWay(reason, unit):
            step = _failed(replace(claimed, unit=unit or claimed.unit), reason, _last_sender(claimed), now)
        case Deferred(until, None):
            step = _queued_again(claimed, until, now)
        case Deferred(until, reason):
            step = _deferred(claimed, reason or "unknown", until, now)
        case Held(reason, until):
            waits = claimed.held_for is not None and not claimed.waited(now)
            step = _queued_again(replace(claimed, held_for=claimed.held_for if waits else reason), until, now)
    return step


def _deciding(claimed: Notification, decision: Decision | None) -> Notification:
    kept = claimed.decisions or ()
    if decision is None or (kept and replace(kept[-1], at=decision.at) == decision):
        return claimed
    return replace(claimed, decisions=(*kept[1 - KEPT_DECISIONS :], decision))


def reported(
    current: Notification,
    number: int,
    outcome: SendOutcome,
    *,
    policy: RetryPolicy,
    now: datetime,
) -> Step[Notification]:
    """The notification after its provider told, by a callback or a poll, what became of its `number`th
    handing over: `SENT` for every status from which it is sure that the provider took it.

    What was sent and fails later goes another way or again, as if the gateway had refused it at once; but
    only within a day, and not what has expired. All else changes nothing: news of an earlier handing over, of
    a notification that has ended, repeated news.
    """
    if number != current.last_handed:
        return Step(current)
    if current.state is State.SENDING and current.handed is not None:
        handed = current.handed
        known = replace(current, attempts=current.attempts[: number - 1], channel=handed.channel)
        return _tried(known, outcome, handed.sender, policy, now, without=handed.without)
    if current.state is not State.SENT or outcome.kind is OutcomeClass.SENT or not current.attempts:
        return Step(current)
    last = current.attempts[-1]
    over = current.expires_at is not None and current.expires_at <= now
    if over or now - last.at >= A_DAY:
        outcome = replace(outcome, kind=OutcomeClass.PERMANENT, meaning=None)
    fallen = replace(current, attempts=current.attempts[:-1], without=None)
    step = _tried(fallen, outcome, last.sender, policy, now)
    if step.state.state is not State.QUEUED:
        return step
    state = step.state
    event = NotificationQueued(**_common(state), channel=state.channel, held_for=state.held_for)
    return _published(state, event)


def resend(failed: Notification, now: datetime, expires_at: datetime) -> Step[Notification]:
    """Queued again by hand: with all channels, and as many tries as at first. One that has not failed, or of
    which nobody knows whether it was sent, stays as it is."""
    if failed.state is not State.FAILED or failed.reason == OUTCOME_UNKNOWN:
        return Step(failed)
    queued = replace(
        failed,
        state=State.QUEUED,
        reason=None,
        avoided=None,
        forgiven=len(failed.attempts),
        due_at=now,
        expires_at=max(expires_at, failed.expires_at or expires_at),
        updated_at=now,
    )
    return _published(queued, NotificationQueued(**_common(queued), channel=queued.channel, held_for=None))


def _tried(
    claimed: Notification,
    outcome: SendOutcome,
    sender: str,
    policy: RetryPolicy,
    now: datetime,
    *,
    without: str | None = None,
    exhausted: str = TRIES_EXHAUSTED,
) -> Step[Notification]:
    """`exhausted` is why it fails when this was the last try. One that went without a link has invited to no
    group."""
    if outcome.kind is OutcomeClass.UNKNOWN and claimed.handed is not None:
        return _unknown(claimed, claimed.handed, policy, now)
    attempts = (*claimed.attempts, Attempt(now, sender, outcome.kind, outcome.error_class))
    held_for = None if claimed.held_for == OUTCOME else claimed.held_for
    current = replace(claimed, attempts=attempts, handed=None, held_for=held_for)
    if outcome.kind is OutcomeClass.SENT:
        sent = replace(_closed(current, State.SENT, None, now), without=without)
        sent = replace(sent, group_id=None) if without else sent
        event: Event = NotificationSent(
            **_common(sent), channel=sent.channel, sender=sender, attempts=len(attempts), without=without
        )
        return _published(sent, event)
    if current.tries < policy.tries:
        if outcome.meaning in _ANOTHER_WAY and current.channel is not None:
            until = now + A_DAY if outcome.meaning is Meaning.DEFER else None
            failed_on = Avoided(current.channel, outcome.error_class or "refused", until)
            others = [each for each in current.avoided or () if each.channel != current.channel]
            return _queued_again(replace(current, avoided=(*others, failed_on)), now, now)
        if outcome.kind is not OutcomeClass.PERMANENT:
            return _queued_again(current, policy.next_try(current, outcome, now), now)
    permanent = outcome.kind is OutcomeClass.PERMANENT
    error_class = (outcome.error_class or "refused") if permanent else exhausted
    return _failed(current, error_class, sender, now)


_ANOTHER_WAY: Final = frozenset({Meaning.RECIPIENT, Meaning.ROUTE, Meaning.DEFER})
"""Errors after which another channel is tried."""


def _unknown(current: Notification, handed: Handed, policy: RetryPolicy, now: datetime) -> Step[Notification]:
    """It waits for news of the provider, and is not sent again, until the time for that is over."""
    attempt = Attempt(handed.at, handed.sender, OutcomeClass.UNKNOWN)
    waiting = replace(
        current,
        attempts=(*current.attempts[: handed.number - 1], attempt),
        channel=handed.channel,
        held_for=OUTCOME,
        claim=None,
        due_at=min(handed.at + policy.outcome_wait, now + max(LOOK_FOR_OUTCOME, now - handed.at)),
        updated_at=now,
    )
    if now >= handed.at + policy.outcome_wait:
        return _failed(waiting, OUTCOME_UNKNOWN, handed.sender, now)
    return Step(waiting)


def _failed(current: Notification, error_class: str, sender: str, now: datetime) -> Step[Notification]:
    failed = _closed(current, State.FAILED, error_class, now)
    event = NotificationFailed(
        **_common(failed),
        channel=failed.channel,
        sender=sender,
        attempts=len(failed.attempts),
        error_class=error_class,
    )
    return _published(failed, event)


def _last_sender(current: Notification) -> str:
    return current.attempts[-1].sender if current.attempts else "none"


def _queued(made: Notification, verdict: Verdict, now: datetime) -> Step[Notification]:
    held_for = verdict.reason
    queued = replace(made, state=State.QUEUED, held_for=held_for, due_at=made.waits_end if held_for else now)
    return _published(
        queued, NotificationQueued(**_common(queued), channel=queued.channel, held_for=held_for)
    )


def _queued_again(current: Notification, due_at: datetime, now: datetime) -> Step[Notification]:
    if current.stop is not None:
        return _suppressed(current, current.stop, now, hearsay=True)
    held_for = current.held_for
    if held_for not in LOOKED_AT_AGAIN and current.waited(now):  # it waits for no event any more
        held_for = None
    due = due_at if held_for in (None, *LOOKED_AT_AGAIN) else current.waits_end
    queued = replace(
        current,
        state=State.QUEUED,
        reason=None,
        held_for=held_for,
        deferred_for=None,
        claim=None,
        due_at=due,
        updated_at=now,
    )
    return Step(queued)


def _deferred(claimed: Notification, reason: str, until: datetime, now: datetime) -> Step[Notification]:
    """The first time that a rule defers it, others hear of it: unless it is for so short that they would only
    hear of its end."""
    step = _queued_again(claimed, until, now)
    if step.state.state is not State.QUEUED or step.state.held_for is not None:
        return step
    deferred = replace(step.state, deferred_for=reason)
    if claimed.deferred_for == reason or until - now < A_MINUTE:
        return Step(deferred)
    event = NotificationDeferred(**_common(deferred), channel=deferred.channel, reason=reason, until=until)
    return _published(deferred, event)


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
        deferred_for=None,
        stop=None,
        due_at=None,
        claim=None,
        handed=None,
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
