"""Notifications: by the state they are in, among all of them and among the welcomes. Pure.

The invite that follows a welcome has the welcome's purpose and is no welcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from services.analytics.core.counting import Count, EventMapping, Flow, Flows, Projection, rollup
from services.analytics.core.facts import Fact, Statement, word
from services.shared.contracts.base import Envelope
from services.shared.contracts.notifications import (
    PROMISED,
    NotificationFailed,
    NotificationQueued,
    NotificationSent,
    NotificationSnapshot,
    NotificationSuppressed,
)
from services.shared.contracts.vocabulary import Purpose

AnyNotification: TypeAlias = (
    NotificationQueued | NotificationSuppressed | NotificationSent | NotificationFailed
)


def counted(fact: Fact) -> Iterator[Count]:
    yield fact["unit"], f"notifications.by_state.{fact['state']}", 1
    if fact["purpose"] == Purpose.WELCOME:
        yield fact["unit"], f"welcomes.by_state.{fact['state']}", 1


def _in_state(state: str) -> Callable[[AnyNotification], Statement]:
    def states(event: AnyNotification) -> Statement:
        return {"state": state, "unit": event.unit, "purpose": _purpose(event)}

    return states


def _snapshot(event: NotificationSnapshot) -> Statement:
    return {"state": word(event.state), "unit": event.unit, "purpose": _purpose(event)}


def _purpose(event: AnyNotification | NotificationSnapshot) -> str:
    return PROMISED if event.template == PROMISED else event.purpose


def _welcome_flow(metric: str) -> Flows:
    """One more of `metric` for notifications that are welcomes."""

    def flows(event: Envelope[AnyNotification]) -> Iterator[Flow]:
        if _purpose(event.data) == Purpose.WELCOME:
            yield metric, event.time, rollup(event.data.unit)

    return flows


NOTIFICATIONS = Projection(
    "notifications",
    1,
    ("notifications.", "welcomes."),
    counted,
    {
        NotificationQueued: EventMapping(_in_state("queued"), _welcome_flow("welcomes.queued")),
        NotificationSuppressed: EventMapping(_in_state("suppressed"), _welcome_flow("welcomes.suppressed")),
        NotificationSent: EventMapping(_in_state("sent"), _welcome_flow("welcomes.sent")),
        NotificationFailed: EventMapping(_in_state("failed"), _welcome_flow("welcomes.failed")),
        NotificationSnapshot: EventMapping(_snapshot, whole=True),
    },
)
