"""The rebuild plan: notifications are restored from this service's own topic; none becomes due by that.

Afterwards all events of members and groups are handled again, because recipients are known from nowhere else.
They find the restored welcome and make no second one; a welcome that was not sent yet is brought into line
and so made due.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, TypeAlias

from services.notifications.core.core import patience_of
from services.notifications.core.domain import (
    WELCOME,
    Attempt,
    Cause,
    Notification,
    OutcomeClass,
    Patience,
    State,
)
from services.notifications.core.store import MemberSequences, NotificationStore, RecipientStore
from services.notifications.settings import NotificationsSettings
from services.shared.clock import Clock
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.notifications import (
    MemberOptedOut,
    MemberReplied,
    MemberUnreachable,
    NotificationDeferred,
    NotificationFailed,
    NotificationQueued,
    NotificationSent,
    NotificationSnapshot,
    NotificationSuppressed,
)
from services.shared.messaging import Subscriptions, UnitOfWork, newer
from services.shared.operations.rebuild import Plan
from services.shared.runtime import Runtime

Stated: TypeAlias = (
    NotificationQueued
    | NotificationDeferred
    | NotificationSuppressed
    | NotificationSent
    | NotificationFailed
    | NotificationSnapshot
)
RESTORED: Final = (
    NotificationQueued,
    NotificationDeferred,
    NotificationSuppressed,
    NotificationSent,
    NotificationFailed,
    NotificationSnapshot,
)
ABOUT_MEMBERS: Final = (MemberOptedOut, MemberReplied, MemberUnreachable)
NOT_KNOWN_YET: Final = "no_group"
"""Holds a restored notification until its recipient is known again; it must not become due before."""


class Restorer:
    """An unfinished notification waits anew: the events that it waits for are read again."""

    def __init__(self, notifications: NotificationStore, clock: Clock, patience: Patience) -> None:
        self._notifications = notifications
        self._clock = clock
        self._patience = patience

    async def restore(self, events: Sequence[Envelope[Stated]], work: UnitOfWork) -> None:
        known = await self._notifications.by_id([e.subject for e in events], work.session)
        fresh = newer(events, lambda id_: known[id_].sequence if id_ in known else 0, work)
        now = self._clock.now()
        restored = [_restored(e, known.get(e.subject), self._patience, now) for e in fresh]
        await self._notifications.add([n for n in restored if n.id not in known], work.session)
        await self._notifications.save([n for n in restored if n.id in known], work.session)


class Numbers:
    """Restores how far the events about each member were numbered."""

    def __init__(self, sequences: MemberSequences) -> None:
        self._sequences = sequences

    async def restore(self, events: Sequence[Envelope[Event]], work: UnitOfWork) -> None:
        reached: dict[str, int] = {}
        for event in events:
            reached[event.subject] = max(event.sequence, reached.get(event.subject, 0))
        await self._sequences.restore(reached, work.session)


def plan(runtime: Runtime) -> Plan:
    settings = runtime.settings
    assert isinstance(settings, NotificationsSettings)
    patience = patience_of(settings)
    sequences = MemberSequences(runtime.database)
    recipients, notifications = RecipientStore(runtime.database), NotificationStore(runtime.database)

    async def summary() -> Sequence[str]:
        states = await notifications.count_by_state()
        by_state = ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
        return [
            f"{await recipients.count()} recipients; notifications: {by_state or 'none'}",
            "Tries before the last one and recorded messages are not in the log.",
            "Nor is the suppression list: restore `suppressions` and `fingerprint_keys` from a dump.",
            "Nor are templates: restore `templates` and `template_changes` from a dump.",
        ]

    restores: Subscriptions = {
        **dict.fromkeys(RESTORED, Restorer(notifications, runtime.server_clock, patience).restore),
        **dict.fromkeys(ABOUT_MEMBERS, Numbers(sequences).restore),
    }
    return Plan(summary=summary, restores=restores)


def _restored(
    event: Envelope[Stated], known: Notification | None, patience: Patience, now: datetime
) -> Notification:
    stated = event.data
    cause = Cause(event.correlation_id, event.traceparent, event.causation_id)
    began = stated.created_at if isinstance(stated, NotificationSnapshot) else event.time
    restored = Notification(
        id=stated.notification_id,
        member_id=stated.member_id,
        unit=stated.unit,
        purpose=stated.purpose,
        template=stated.template,
        language=stated.language,
        channel=stated.channel,
        group_id=stated.group_id or (known.group_id if known else None),
        state=_state(stated),
        cause=known.cause if known else cause,
        created_at=known.created_at if known else began,
        updated_at=event.time,
        reason=_reason(stated),
        attempts=_attempts(event),
        sequence=event.sequence,
        without=stated.without if isinstance(stated, NotificationSent | NotificationSnapshot) else None,
    )
    if not restored.state.is_open:
        return replace(restored, group_id=None) if restored.without else restored
    waits_until = now + patience.waits if restored.template == WELCOME else None
    return replace(restored, held_for=NOT_KNOWN_YET, waits_until=waits_until, expires_at=now + patience.lives)


def _state(stated: Stated) -> State:
    if isinstance(stated, NotificationSnapshot):
        return State(stated.state)
    if isinstance(stated, NotificationDeferred):
        return State.QUEUED
    return State(stated.event_type.removeprefix("notification."))


def _reason(stated: Stated) -> str | None:
    match stated:
        case NotificationSuppressed() | NotificationSnapshot():
            return stated.reason
        case NotificationFailed():
            return stated.error_class
        case _:
            return None


def _attempts(event: Envelope[Stated]) -> tuple[Attempt, ...]:
    """The last try only, which is the one that the event is about."""
    stated = event.data
    if (
        isinstance(stated, NotificationQueued | NotificationDeferred | NotificationSuppressed)
        or not stated.sender
    ):
        return ()
    state, error_class = _state(stated), _reason(stated)
    if state is State.SENT:
        return (Attempt(event.time, stated.sender, OutcomeClass.SENT),)
    if state is State.FAILED:
        return (Attempt(event.time, stated.sender, OutcomeClass.PERMANENT, error_class),)
    return ()
