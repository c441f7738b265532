"""Incidents: recorded, their duties marked, the affected listed, the notices drafted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Gauge

from services.members.core.core import Core
from services.members.core.errors import affected_taken, in_the_future
from services.members.incidents import affected_job
from services.members.incidents.domain import CLOCKS, Affected, Incident, Words, mark
from services.members.incidents.notices import Draft, Notices
from services.members.incidents.store import WORDS, IncidentStore, Stored
from services.shared.contracts.vocabulary import in_subtree
from services.shared.database import ServerClock
from services.shared.database.idempotency import IdempotentRequest, MadeIds
from services.shared.errors import NotFoundError, StaleVersionError
from services.shared.identity import Identity
from services.shared.ids import new_id
from services.shared.messaging import UnitOfWork
from services.shared.runtime.slow_gauges import Reading


@dataclass(frozen=True, slots=True)
class Shown:
    incident: Incident
    words: Words


class Incidents:
    def __init__(self, core: Core, store: IncidentStore) -> None:
        self._made = MadeIds(core.runtime.database, core.runtime.server_clock)
        self._clock = core.runtime.server_clock
        self._outbox = core.runtime.outbox
        self._jobs = core.runtime.jobs
        self._vault = core.vault
        self._store = store
        self._notices = Notices()

    async def record(
        self,
        caller: Identity,
        unit: str,
        detected_at: datetime,
        words: Words,
        request: IdempotentRequest | None,
    ) -> Shown:
        """The new incident, or the one that the same request made before, as it is now.

        Raises: `NotFoundError` (unit), `InvalidError` (detected in the future), `KeyReusedError`.
        """
        caller.check_access(unit)
        now = self._clock.now()
        if detected_at > now:
            raise in_the_future("/detected_at")
        incident = Incident(
            id=new_id(),
            unit=unit,
            detected_at=detected_at,
            created_at=now,
            created_by=caller.subject,
            changed_at=now,
            changed_by=caller.subject,
        )
        [sealed] = await self._vault.seal([(incident.id, WORDS.encode(words))])

        async def add(work: UnitOfWork) -> bool:
            new = await self._made.remember(request, incident.id, work.session)
            if new:
                await self._store.add(incident, sealed, work.session)
            return new

        if await self._outbox.transact(add):
            return Shown(incident, words)
        earlier = await self._made.earlier(request)
        assert earlier is not None
        return await self.get(caller, earlier)

    async def get(self, caller: Identity, incident_id: str) -> Shown:
        """Raises: `NotFoundError`."""
        return await self._open(await self._find(caller, incident_id))

    async def page(
        self, caller: Identity, unit: str | None, after: str | None, limit: int
    ) -> Sequence[Incident]:
        """At most `limit` after the id `after`, the newest first. Raises: `NotFoundError`."""
        found = await self._store.page(caller.accessible_root(unit), after, limit)
        return [stored.incident for stored in found]

    async def change(
        self,
        caller: Identity,
        incident_id: str,
        version: int,
        words: Mapping[str, Any],
        marks: Mapping[str, datetime | None],
    ) -> Shown:
        """Change its `words`, and mark duties as done at a time, or (None) not done after all.

        Raises: `NotFoundError`, `StaleVersionError`, `InvalidError` (done in the future).
        """
        now = self._clock.now()
        for duty, at in marks.items():
            if at is not None and at > now:
                raise in_the_future(f"/done/{duty}")

        async def write(work: UnitOfWork) -> Shown:
            stored = await self._find(caller, incident_id, work)
            old = await self._open(stored)
            if old.incident.version != version:
                raise StaleVersionError
            marked = mark(old.incident, marks, caller.subject)
            new_words = replace(old.words, **words)
            if (marked, new_words) == (old.incident, old.words):
                return old
            new = replace(marked, changed_at=now, changed_by=caller.subject, version=version + 1)
            [sealed] = await self._vault.seal([(new.id, WORDS.encode(new_words))])
            await self._store.replace(new, sealed, work.session)
            return Shown(new, new_words)

        return await self._outbox.transact(write)

    async def take_affected(
        self,
        caller: Identity,
        incident_id: str,
        *,
        by: str,
        subject: str | None,
        unit: str | None,
        since: datetime | None,
        until: datetime | None,
    ) -> Incident:
        """Have a job list the affected, once: the list is frozen as of now. After a job that failed or was
        cancelled, the list can be taken anew.

        Raises: `NotFoundError` for a unit outside the incident's or the caller's; `ConflictError` when the
        list was taken.
        """
        job_id, now = new_id(), self._clock.now()

        async def write(work: UnitOfWork) -> Incident:
            stored = await self._find(caller, incident_id, work)
            old = stored.incident
            root = unit or old.unit
            if not in_subtree(root, old.unit):
                raise NotFoundError
            caller.check_access(root)
            if old.affected is not None and not await self._failed(old.affected):
                raise affected_taken()
            affected = Affected(
                by=by,
                subject=subject,
                unit=root,
                since=since,
                until=min(until or now, now),
                taken_at=now,
                taken_by=caller.subject,
                job=job_id,
            )
            new = replace(
                old, affected=affected, changed_at=now, changed_by=caller.subject, version=old.version + 1
            )
            await self._store.replace(new, stored.sealed, work.session)
            await self._jobs.add(affected_job.KIND, {"incident": incident_id}, caller, id=job_id, work=work)
            return new

        return await self._outbox.transact(write)

    async def affected(
        self, caller: Identity, incident_id: str, after: str | None, limit: int
    ) -> Sequence[str]:
        """At most `limit` ids of affected members, after the id `after`. Raises: `NotFoundError`."""
        affected = (await self._find(caller, incident_id)).incident.affected
        return await self._store.affected(affected.job, after, limit) if affected else []

    async def drafts(self, caller: Identity, incident_id: str) -> Sequence[Draft]:
        """Raises: `NotFoundError`."""
        shown = await self.get(caller, incident_id)
        affected = shown.incident.affected
        return self._notices.drafts(shown.incident, shown.words, affected.count if affected else None)

    async def _failed(self, affected: Affected) -> bool:
        if affected.count is not None:
            return False
        job = await self._jobs.get(affected.job)
        return job is None or job.state in ("failed", "cancelled")

    async def _find(self, caller: Identity, incident_id: str, work: UnitOfWork | None = None) -> Stored:
        stored = await self._store.find(incident_id, work.session if work else None)
        if stored is None:
            raise NotFoundError
        caller.check_access(stored.incident.unit)
        return stored

    async def _open(self, stored: Stored) -> Shown:
        [document] = await self._vault.open([(stored.incident.id, stored.sealed)])
        return Shown(stored.incident, WORDS.decode(document))


def clocks(store: IncidentStore, clock: ServerClock, registry: CollectorRegistry) -> Reading:
    gauge = Gauge(
        "sangathan_members_incident_clock_seconds",
        "Seconds until the earliest report of an incident is due that is not marked as done (negative: it is"
        " overdue), by duty (cert_in, board_report); +Inf if there is none.",
        ["duty"],
        registry=registry,
    )

    async def read() -> None:
        due = await store.next_due()
        for duty in CLOCKS:
            at = due.get(duty)
            gauge.labels(duty.value).set((at - clock.now()).total_seconds() if at else math.inf)

    return read
