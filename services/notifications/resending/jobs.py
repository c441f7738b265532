"""The job that queues again what has failed, batch by batch."""

from __future__ import annotations

from typing import Final

from services.notifications.resending.service import RESEND, Resending
from services.notifications.resending.store import FailedStore
from services.shared.jobs import Advance, Effect, Job, JobKind
from services.shared.messaging import UnitOfWork

BATCH: Final = 200


class ResendJob:
    """Its cursor is the place of the last notification, so what fails again meanwhile is not sent a third
    time."""

    def __init__(self, resending: Resending, store: FailedStore) -> None:
        self._resending = resending
        self._store = store
        self.kind = JobKind(RESEND, self.step)

    async def step(self, job: Job) -> Effect:
        wanted = job.input
        root = job.requested_by.accessible_root(wanted["unit"])

        async def effect(work: UnitOfWork) -> Advance:
            after = (job.cursor[0], job.cursor[1]) if job.cursor else None
            found = await self._store.page(
                root, wanted["reason"], wanted["purpose"], after, BATCH, work.session
            )
            await self._resending.again(found, job.origin, work)
            total = None
            if job.total is None:
                total = await self._store.count(root, wanted["reason"], wanted["purpose"])
            finished = len(found) < BATCH
            return Advance(
                cursor=[found[-1].unit, found[-1].id] if found else job.cursor,
                done=len(found),
                total=total,
                counts={"queued": len(found)},
                finished=finished,
                result={"queued": job.done + len(found)} if finished else None,
            )

        return effect
