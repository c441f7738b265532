"""Rosters as their callers see them: uploaded, and what they have shown."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.groups.core.core import Core
from services.groups.core.domain import Group
from services.groups.core.errors import (
    empty_roster,
    numbers_cannot_be_matched,
    roster_from_the_future,
    roster_not_text,
    roster_too_long,
)
from services.groups.core.observations.domain import Observation
from services.groups.rosters.entries import MAX_ENTRIES, Entries, decode, read
from services.groups.rosters.roster_job import RosterJob
from services.groups.rosters.store import RosterStore
from services.shared.contracts.vocabulary import MAX_AHEAD
from services.shared.database import Document
from services.shared.database.idempotency import IdempotentRequest
from services.shared.errors import NotFoundError
from services.shared.identity import Identity
from services.shared.jobs import Job


@dataclass(frozen=True, slots=True)
class Drift:
    """The counts of a group, and members who are not where they should be."""

    group: Group
    counts: Document
    members: Sequence[Observation]


class RosterService:
    def __init__(self, core: Core, store: RosterStore, jobs: RosterJob) -> None:
        self._core = core
        self._store = store
        self._jobs = jobs

    async def group(self, caller: Identity, id_: str) -> Group:
        """Raises: `NotFoundError`."""
        group = (await self._core.store.groups([id_])).get(id_)
        if group is None or not caller.can_access(group.unit):
            raise NotFoundError
        return group

    async def upload(
        self,
        caller: Identity,
        group_id: str,
        entries: Entries,
        taken_at: datetime | None,
        *,
        complete: bool,
        force: bool,
        request: IdempotentRequest | None,
    ) -> Job:
        """Raises: `NotFoundError`; `InvalidError` for a roster that is empty, too long or of a time to come;
        `UnavailableError` for numbers without a members service; `KeyReusedError`."""
        group = await self.group(caller, group_id)
        if job := await self._jobs.earlier(request):
            return job
        now = self._core.runtime.server_clock.now()
        if not len(entries):
            raise empty_roster()
        if len(entries) > MAX_ENTRIES:
            raise roster_too_long(MAX_ENTRIES)
        if taken_at is not None and taken_at > now + MAX_AHEAD:
            raise roster_from_the_future()
        if entries.numbers and self._core.members is None:
            raise numbers_cannot_be_matched()
        at = min(taken_at or now, now)
        return await self._jobs.add(
            caller, group, entries, at, complete=complete, force=force, request=request
        )

    async def take(self, caller: Identity, group_id: str, content: bytes, complete: bool) -> Job:
        """Upload a roster as text in any form.

        Raises: as `upload`, and `InvalidError` for what is no text.
        """
        entries = await asyncio.to_thread(read_text, content)
        return await self.upload(
            caller, group_id, entries, None, complete=complete, force=False, request=None
        )

    async def drift_of_group(
        self, caller: Identity, group_id: str, cause: str | None, after: str | None, limit: int
    ) -> Drift:
        """Raises: `NotFoundError`."""
        group = await self.group(caller, group_id)
        counts = await self._store.counts(group_id)
        members = await self._core.observations.in_group(group_id, after, limit, cause=cause, drifting=True)
        return Drift(group, counts, members)

    async def drift(self, caller: Identity, unit: str | None) -> list[Document]:
        """The counts of a subtree by kind of group. Raises: `NotFoundError`."""
        return await self._store.drift(caller.accessible_root(unit))


def read_text(content: bytes, *, vcard: bool = False) -> Entries:
    """Raises: `InvalidError` for what is no text."""
    try:
        text = decode(content)
    except UnicodeDecodeError:
        raise roster_not_text() from None
    return read(text.splitlines(), vcard=vcard or "BEGIN:VCARD" in text[:200].upper())
