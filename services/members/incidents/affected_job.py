"""The job that takes the list of the affected: page by page, each once, within the incident's unit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from services.members.incidents.domain import Affected
from services.members.incidents.store import IncidentStore
from services.shared.errors import NotFoundError
from services.shared.jobs import Advance, Effect, Job, JobKind
from services.shared.messaging import UnitOfWork

KIND: Final = "incident-affected"
MEMBERS: Final = 1000
READS: Final = 10
"""Reads per step: each may be of 500 members."""


class AffectedJob:
    def __init__(self, store: IncidentStore) -> None:
        self._store = store
        self.kind = JobKind(KIND, self.step)

    async def step(self, job: Job) -> Effect:
        """Put the next members on the list. Raises: `NotFoundError` when the unit is not the requester's."""
        incident_id: str = job.input["incident"]
        stored = await self._store.find(incident_id)
        affected = stored.incident.affected if stored else None
        if affected is None:
            raise NotFoundError
        job.requested_by.check_access(affected.unit)
        members, cursor = await self._next(affected, job.cursor)

        async def write(work: UnitOfWork) -> Advance:
            new = await self._store.affect(job.id, members, work.session)
            if cursor is None:
                await self._store.close_list(incident_id, job.done + new, work.session)
            return Advance(cursor=cursor, done=new, finished=cursor is None)

        return write

    async def _next(self, affected: Affected, cursor: Any) -> tuple[Sequence[str], Any]:
        """The next members, and the cursor behind them; None at the end."""
        if affected.by == "members":
            found = await self._store.members_of(affected, cursor or "", MEMBERS)
            return found, found[-1] if len(found) == MEMBERS else None
        after: tuple[datetime, str] | None = tuple(cursor) if cursor else None
        reads = await self._store.reads_of(affected, after, READS)
        ids = {id_ for read in reads for id_ in read["ids"]}
        members = await self._store.within(ids, affected.unit)
        return members, [reads[-1]["at"], reads[-1]["_id"]] if len(reads) == READS else None
