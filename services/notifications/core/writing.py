"""Writing: every notification that events make or change is written in one way, whatever its purpose."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from services.notifications.core.domain import Notification, State
from services.notifications.core.metrics import NotificationMetrics
from services.notifications.core.store import NotificationStore
from services.shared.contracts.base import Step
from services.shared.messaging import Origin, UnitOfWork


class Change(NamedTuple):
    """A notification before (None if it is made now) and after an event, which `origin` names."""

    before: Notification | None
    step: Step[Notification]
    origin: Origin


class NotificationWriter:
    """`due` is set when a notification can go at once."""

    def __init__(
        self, notifications: NotificationStore, metrics: NotificationMetrics, due: asyncio.Event
    ) -> None:
        self._notifications = notifications
        self._metrics = metrics
        self._due = due

    async def write(self, changes: Iterable[Change], work: UnitOfWork) -> None:
        """Write what has changed, stage the events that tell of it and, once that is committed, count the
        states entered and wake the dispatcher.

        Raises: `BulkWriteError` (duplicate key, a race) when a member has a welcome already.
        """
        news = [(before, step, origin) for before, step, origin in changes if step.state != before]
        for _, step, origin in news:
            work.stage_all(step.events, origin)
        made = [step.state for before, step, _ in news if before is None]
        await self._notifications.add(made, work.session)
        changed = [step.state for before, step, _ in news if before is not None]
        await self._notifications.save(changed, work.session)
        entered = [
            step.state for before, step, _ in news if before is None or before.state is not step.state.state
        ]

        def after() -> None:
            self._metrics.entered(entered)
            if any(n.state is State.QUEUED and n.held_for is None for n in (*made, *changed)):
                self._due.set()

        work.after_commit(after)
