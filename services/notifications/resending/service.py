"""Resending as requests ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from services.notifications.core.core import Core
from services.notifications.core.domain import OUTCOME_UNKNOWN, Notification, State, resend
from services.notifications.resending.store import FailedStore
from services.shared.errors import ConflictError, NotFoundError
from services.shared.identity import Identity
from services.shared.jobs import Job
from services.shared.messaging import Origin, UnitOfWork

RESEND: Final = "resend"
LIVES: Final = timedelta(days=7)
"""For how long a notification that is sent again may wait for anything."""


class Resending:
    def __init__(self, core: Core, store: FailedStore) -> None:
        self._store = store
        self._notifications = core.notifications
        self._outbox = core.runtime.outbox
        self._jobs = core.runtime.jobs
        self._clock = core.clock
        self._metrics = core.metrics
        self._due = core.due

    async def one(self, caller: Identity, id_: str, origin: Origin) -> Notification:
        """Queue one again.

        Raises: `NotFoundError`; `ConflictError` for one that has not failed, or of which nobody knows whether
            it was sent.
        """

        async def body(work: UnitOfWork) -> Notification:
            found = await self._store.find(id_, work.session)
            if found is None:
                raise NotFoundError
            caller.check_access(found.unit)
            if found.state is not State.FAILED:
                raise ConflictError("not-failed", "only a notification that has failed is sent again")
            _check_known(found.reason)
            [queued] = await self.again([found], origin, work)
            return queued

        return await self._outbox.transact(body)

    async def count(self, caller: Identity, unit: str | None, reason: str, purpose: str | None) -> int:
        """How many `all` would queue again.

        Raises: `NotFoundError` for a unit outside the caller's; `ConflictError`.
        """
        _check_known(reason)
        return await self._store.count(caller.accessible_root(unit), reason, purpose)

    async def all(self, caller: Identity, unit: str | None, reason: str, purpose: str | None) -> Job:
        """A job that queues again all of the unit that failed for this reason.

        Raises: `NotFoundError` for a unit outside the caller's; `ConflictError`.
        """
        _check_known(reason)
        root = caller.accessible_root(unit)
        return await self._jobs.add(RESEND, {"unit": root, "reason": reason, "purpose": purpose}, caller)

    async def again(
        self, failed: Sequence[Notification], origin: Origin, work: UnitOfWork
    ) -> list[Notification]:
        now = self._clock.now()
        steps = [resend(notification, now, now + LIVES) for notification in failed]
        await self._notifications.save([step.state for step in steps], work.session)
        for step in steps:
            work.stage_all(step.events, origin)
        queued = [step.state for step in steps]
        work.after_commit(partial(self._after, queued))
        return queued

    def _after(self, queued: Sequence[Notification]) -> None:
        self._metrics.entered(queued)
        self._due.set()


def _check_known(reason: str | None) -> None:
    if reason == OUTCOME_UNKNOWN:
        detail = "nobody knows whether these were sent: sent again, some would come twice"
        raise ConflictError("outcome-unknown", detail)
