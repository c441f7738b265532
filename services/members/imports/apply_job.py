"""Applying a plan: a job that takes the very rows that were shown, a page in each step.

A row whose member changed since the plan was made, and a new one whose phone somebody has taken or given up
meanwhile, is set aside and not applied: whatever people did themselves goes before a file. So is a row about
somebody who was erased meanwhile, of which nothing is shown any more.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from services.members.core.changing import Profile, move, update
from services.members.core.core import Core
from services.members.core.domain import Contact, Member, Status
from services.members.core.joining import join
from services.members.core.store import SealedContact, document_of
from services.members.imports.announcing import Announcing, is_welcomed
from services.members.imports.domain import (
    CHANGED,
    CONSENTS_SCOPE,
    NEW,
    REFUSED,
    PlannedRow,
    RefusedRow,
    Terms,
    application,
    changes,
    without_erased,
)
from services.members.imports.pages import ASIDE, Pages
from services.members.imports.records import terms_from
from services.members.imports.store import RETENTION, ImportStore
from services.shared.contracts.base import Numbered
from services.shared.database import Document
from services.shared.errors import PermanentError, TransientError
from services.shared.identity import Identity
from services.shared.jobs import Advance, Effect, Job, JobKind
from services.shared.messaging import UnitOfWork

KIND: Final = "member_import"
CHANGED_MEANWHILE: Final = "changed_meanwhile"
ERASED: Final = "erased"
FRESH: Final = timedelta(seconds=1)
"""A page that was made ready longer ago is made ready again: its members would have joined in the past."""


class _Joining(NamedTuple):
    """A new member, ready to be inserted if nothing speaks against it."""

    row: PlannedRow
    document: Document
    events: tuple[Numbered, ...]


@dataclass(frozen=True, slots=True)
class _Page:
    """A page as far as it can be made ready without asking who is known now."""

    id: str
    document: Document
    """The import's."""
    joining: Sequence[_Joining]
    changing: Sequence[PlannedRow]
    erased: Sequence[PlannedRow]
    at: datetime
    """When its new members join."""


@dataclass(slots=True)
class _Writes:
    """The writes of one page; rows `aside` are not applied any more."""

    created: list[Document] = field(default_factory=list)
    changed: list[tuple[Member, Member, SealedContact | None]] = field(default_factory=list)
    events: list[Numbered] = field(default_factory=list)
    welcomed: int = 0
    aside: list[PlannedRow] = field(default_factory=list)

    def counts(self) -> Counter[str]:
        return Counter(created=len(self.created), updated=len(self.changed), set_aside=len(self.aside))


class ApplyJob:
    """While a page is being committed, the next one is made ready; each commits only if it is unapplied."""

    def __init__(self, core: Core, store: ImportStore, pages: Pages, announcing: Announcing) -> None:
        self._clock = core.runtime.server_clock
        self._contacts = core.contacts
        self._members = core.store
        self._erasures = core.erasures
        self._store = store
        self._pages = pages
        self._announcing = announcing
        self._rows_counted = core.metrics.import_rows
        self._ahead: tuple[str, asyncio.Task[_Page | None]] | None = None
        """An import's id and its next page; all pages before that one are applied."""
        self.kind = JobKind(KIND, self.step)

    async def step(self, job: Job) -> Effect:
        """Apply the first page that has not been applied, once the budget allows its welcomes."""
        import_id: str = job.input["import"]
        page = await self._next(import_id)
        if page is None:
            return await self._finish(job, import_id)
        if page.document["terms"]["consents"] and not job.requested_by.has_scope(CONSENTS_SCOPE):
            raise PermanentError("insufficient_scope", f"consents need the scope {CONSENTS_SCOPE}")
        writes = await self._decide(job.requested_by, page)
        if writes.welcomed and (until := await self._announcing.spent_until()):
            return _resting(until)
        aside = await self._set_aside(page, writes.aside)
        counts = writes.counts()
        counts["set_aside"] += len(page.erased)
        total = _total(page.document)
        ahead = import_id, asyncio.create_task(self._load(import_id, page.document, page.id))

        async def write(work: UnitOfWork) -> Advance:
            await self._check_erased(page, work)
            await self._announcing.spend(writes.welcomed, work.session)
            if writes.created:
                await self._members.insert(writes.created, work.session)
            await self._store.change(writes.changed, work.session)
            work.stage_all(writes.events, job.origin)
            await self._store.close_page(page.id, aside, work.session)
            applied = {f"applied.{word}": n for word, n in counts.items()}
            await self._store.count(import_id, applied, work.session)
            # Only then: if this page is not committed, it and not the next one has its turn again.
            work.after_commit(lambda: self._committed(counts, ahead))
            return Advance(done=counts.total(), total=total, counts=counts)

        return write

    async def _finish(self, job: Job, import_id: str) -> Effect:
        """Raises: `PermanentError` when rows of the plan were deleted before their turn."""
        document = await self._store.find(import_id)
        if document is not None and sum(document.get("applied", {}).values()) < _total(document):
            raise PermanentError("plan_expired", f"the plan was deleted after {RETENTION.days} days")

        async def write(work: UnitOfWork) -> Advance:
            applied = {"applied_at": self._clock.now()}
            await self._store.count(import_id, {}, work.session, applied)
            return Advance(finished=True, result=dict(job.counts))

        return write

    def _committed(self, counts: Mapping[str, int], ahead: tuple[str, asyncio.Task[_Page | None]]) -> None:
        self._ahead = ahead
        for word, n in counts.items():
            self._rows_counted.labels(word).inc(n)

    async def _next(self, import_id: str) -> _Page | None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == import_id:
            page = await ahead[1]
            if page is None or self._clock.now() - page.at < FRESH:
                return page
        elif ahead is not None:
            ahead[1].cancel()
        document = await self._store.find(import_id)
        assert document is not None, "an import outlives its jobs"
        return await self._load(import_id, document, None)

    async def _load(self, import_id: str, document: Document, after: str | None) -> _Page | None:
        """The first unapplied page after the page `after`."""
        page = await self._store.next_unapplied(import_id, after)
        if page is None:
            return None
        planned = await self._pages.planned(page)
        rows = without_erased(planned, document)
        lines = {row.line for row in rows}
        erased = [row for row in planned if row.line not in lines]
        new = [row for row in rows if not row.version]
        sealed = await self._contacts.seal([(row.id, _contact(row)) for row in new])
        terms, at = terms_from(document), self._clock.now()
        # In a thread: a page's members and events take tens of milliseconds.
        joining = await asyncio.to_thread(_joining, new, sealed, terms, import_id, at)
        return _Page(page["_id"], document, joining, [row for row in rows if row.version], erased, at)

    async def _decide(self, caller: Identity, page: _Page) -> _Writes:
        """Compare the page with the people as they are now."""
        numbers = {j.row.id: [j.document["phone_index"], *self._numbers(j.row.also)] for j in page.joining}
        numbers |= {row.id: self._numbers((row.values.get("phone"), *row.also)) for row in page.changing}
        phones = [phone for each in numbers.values() for phone in each]
        inviters = {each.row.values["inviter_id"] for each in page.joining if "inviter_id" in each.row.values}
        named = (*(each.row for each in page.joining), *page.changing)
        reached_by = {row.values["reached_by"] for row in named if "reached_by" in row.values}
        active, left, merged, sealed, known, members = await asyncio.gather(
            self._store.active_by_phone(phones),
            self._store.gone_by_phone(phones, Status.LEFT),
            self._store.gone_by_phone(phones, Status.MERGED),
            self._erasures.sealed_phones(phones),
            self._members.existing(inviters),
            self._store.members([row.id for row in page.changing]),
        )
        terms = terms_from(page.document)
        reaching = await self._members.with_number(reached_by)
        there = await self._store.reached_by(reached_by) if reached_by else []
        dependents = {self._contacts.dependent(r.member.reached_by or "", r.member.name) for r in there}
        writes, had = _Writes(), active.keys() | left.keys() | merged.keys() | sealed
        able = {None, *(id_ for id_, unit in reaching.items() if caller.can_access(unit))}
        for each in page.joining:
            values = each.row.values
            sponsored = values.get("inviter_id") in {None, *known} and values.get("reached_by") in able
            taken = not had.isdisjoint(numbers[each.row.id]) or self._dependent(values) in dependents
            if taken or not sponsored or not caller.can_access(values["unit"]):
                writes.aside.append(each.row)
            else:
                writes.created.append(each.document)
                writes.events += each.events
                writes.welcomed += is_welcomed(each.row, terms)
        contacts = dict(zip(members, await self._contacts.open(list(members.values())), strict=True))
        for row in page.changing:
            record = members.get(row.id)
            reached = "reached_by" not in row.changed or row.values["reached_by"] in able
            taken = any(active[phone].member.id != row.id for phone in numbers[row.id] if phone in active)
            if record and reached and not taken and _is_as_planned(caller, row, record.member):
                await self._change(writes, row, record.member, contacts[row.id])
            else:
                writes.aside.append(row)
        return writes

    async def _check_erased(self, page: _Page, work: UnitOfWork) -> None:
        """Raises: `TransientError` when somebody was erased since the page was read: it is read again."""
        document = await self._store.find(page.document["_id"], work.session)
        if (document or {}).get("erased_lines") != page.document.get("erased_lines"):
            raise TransientError("somebody whom the file names was erased meanwhile")

    def _dependent(self, values: Mapping[str, Any]) -> str | None:
        """The fingerprint of somebody without a number of their own: by their name and who reaches them."""
        if "reached_by" not in values or "phone" in values:
            return None
        return self._contacts.dependent(values["reached_by"], values["name"])

    def _numbers(self, typed: Iterable[str | None]) -> list[str]:
        """The fingerprints of the numbers, without blanks."""
        return [self._contacts.fingerprint(number) for number in typed if number]

    async def _change(self, writes: _Writes, row: PlannedRow, member: Member, contact: Contact) -> None:
        now = self._clock.now()
        step = update(Profile(member, contact), changes(row, contact), now, sees_contact=True)
        moved = move(step.state.member, row.values.get("unit", member.unit), now)
        sealed = None
        if step.state.contact != contact:
            [sealed] = await self._contacts.seal([(row.id, step.state.contact)])
        writes.changed.append((member, moved.state, sealed))
        writes.events += [*step.events, *moved.events]

    async def _set_aside(self, page: _Page, rows: Sequence[PlannedRow]) -> bytes | None:
        """Seal the rows that are not applied, as they would stand in a file like the one they came from."""
        fields = page.document["fields"]
        shown = [RefusedRow(row.line, REFUSED, CHANGED_MEANWHILE, _cells(row, fields)) for row in rows]
        shown += [RefusedRow(row.line, REFUSED, ERASED, ()) for row in page.erased]
        return await self._pages.seal(page.id, ASIDE, shown)


def _total(document: Mapping[str, Any]) -> int:
    return sum(document["counts"].get(word, 0) for word in (NEW, CHANGED))


def _resting(until: datetime) -> Effect:
    async def write(_: UnitOfWork) -> Advance:
        return Advance(rest_until=until)

    return write


def _joining(
    rows: Sequence[PlannedRow], sealed: Sequence[SealedContact], terms: Terms, import_id: str, at: datetime
) -> list[_Joining]:
    made = []
    for row, contact in zip(rows, sealed, strict=True):
        step = join(application(row, terms, import_id), row.id, at)
        made.append(_Joining(row, document_of(step.state, contact), step.events))
    return made


def _contact(row: PlannedRow) -> Contact:
    return Contact(row.values.get("phone", ""), row.values.get("email"), row.handles)


def _is_as_planned(caller: Identity, row: PlannedRow, member: Member) -> bool:
    if member.version != row.version or member.status != Status.ACTIVE:
        return False
    return all(map(caller.can_access, (member.unit, row.values.get("unit", member.unit))))


def _cells(row: PlannedRow, fields: Sequence[str | None]) -> list[str]:
    values: dict[str, Any] = {**row.values, **row.handles}
    values["platforms"] = "; ".join(f"{platform}:{handle}" for platform, handle in row.handles.items())
    if row.also:
        values["phone"] = ", ".join((row.values["phone"], *row.also))
    if row.consent is not None:
        values["consent"] = "yes" if row.consent else "no"
    return [str(values.get(name, "")) if name else "" for name in fields]
