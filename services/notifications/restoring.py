"""What became of every notification, from this service's own topic; nothing is staged and nothing becomes due.

The events of members and groups are all heard again afterwards, since recipients are known from nowhere else. They find
the restored welcome and make no second one, and bring one that was not sent yet into line, which makes it due.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from services.notifications.domain import Attempt, Cause, Notification, OutcomeClass, State
from services.notifications.store import Store
from services.shared.contracts.base import Envelope
from services.shared.contracts.notifications import (
    NotificationFailed,
    NotificationQueued,
    NotificationSent,
    NotificationSnapshot,
    NotificationSuppressed,
)
from services.shared.messaging import UnitOfWork
from services.shared.operations.rebuild import Plan
from services.shared.runtime import Runtime

Told = (
    NotificationQueued | NotificationSuppressed | NotificationSent | NotificationFailed | NotificationSnapshot
)
KINDS: Final = (
    NotificationQueued,
    NotificationSuppressed,
    NotificationSent,
    NotificationFailed,
    NotificationSnapshot,
)
NOT_KNOWN_YET: Final = "no_group"
"""What holds a restored one until its recipient is known again: it must not come due before."""


class Restoring:
    def __init__(self, store: Store) -> None:
        self._store = store

    async def notifications(self, events: Sequence[Envelope[Told]], work: UnitOfWork) -> None:
        known = await self._store.by_id([e.subject for e in events], work.session)
        fresh = [e for e in events if (n := known.get(e.subject)) is None or e.sequence > n.sequence]
        told = [_told(e, known.get(e.subject)) for e in fresh]
        await self._store.add([n for n in told if n.id not in known], work.session)
        await self._store.save([n for n in told if n.id in known], work.session)


def plan(runtime: Runtime) -> Plan:
    store = Store(runtime.database)
    handlers = Restoring(store)

    async def summary() -> Sequence[str]:
        recipients, states = await store.count()
        by_state = ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
        return [
            f"{recipients} recipients; notifications: {by_state or 'none'}",
            "Tries before the last one, recorded messages and cached contacts are not in the log.",
        ]

    return Plan(summary=summary, restoring=dict.fromkeys(KINDS, handlers.notifications))


def _told(event: Envelope[Told], known: Notification | None) -> Notification:
    said = event.data
    cause = Cause(event.correlation_id, event.traceparent, event.causation_id)
    began = said.created_at if isinstance(said, NotificationSnapshot) else event.time
    told = Notification(
        id=said.notification_id,
        member_id=said.member_id,
        unit=said.unit,
        purpose=said.purpose,
        template=said.template,
        language=said.language,
        channel=said.channel,
        group_id=known.group_id if known else None,
        state=_state(said),
        cause=known.cause if known else cause,
        created_at=known.created_at if known else began,
        updated_at=event.time,
        reason=_reason(said),
        attempts=_attempts(event),
        sequence=event.sequence,
    )
    return replace(told, held_for=NOT_KNOWN_YET) if told.state.is_open else told


def _state(said: Told) -> State:
    if isinstance(said, NotificationSnapshot):
        return State(said.state)
    return State(said.event_type.removeprefix("notification."))


def _reason(said: Told) -> str | None:
    match said:
        case NotificationSuppressed() | NotificationSnapshot():
            return said.reason
        case NotificationFailed():
            return said.error_class
        case _:
            return None


def _attempts(event: Envelope[Told]) -> tuple[Attempt, ...]:
    """The last try, which is the one that the event is about."""
    said = event.data
    if isinstance(said, NotificationQueued | NotificationSuppressed) or not said.sender:
        return ()
    state, error_class = _state(said), _reason(said)
    if state is State.SENT:
        return (Attempt(event.time, said.sender, OutcomeClass.SENT),)
    if state is State.FAILED:
        return (Attempt(event.time, said.sender, OutcomeClass.PERMANENT, error_class),)
    return ()
