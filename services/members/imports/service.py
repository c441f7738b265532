"""Imports as a caller has them: send a file, see its plan, apply it, fetch what was refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from services.members.core.core import Core
from services.members.core.errors import unknown_notice
from services.members.imports import apply_job, plan_job
from services.members.imports.announcing import Announcing
from services.members.imports.columns import columns, is_header
from services.members.imports.domain import PlannedRow, Terms, without_erased
from services.members.imports.errors import not_planned, refused_file
from services.members.imports.legacy_fonts import mostly_legacy
from services.members.imports.pages import ASIDE, PLAN, REFUSED, Pages
from services.members.imports.reading import (
    SAMPLE_BYTES,
    SLICE_BYTES,
    Form,
    Kind,
    Place,
    Row,
    UnreadableError,
    form_of,
    read_slice,
)
from services.members.imports.records import form_to, terms_to
from services.members.imports.store import ImportStore
from services.shared.database import Document
from services.shared.database.idempotency import IdempotentRequest, MadeIds
from services.shared.errors import NotFoundError
from services.shared.identity import Identity
from services.shared.ids import new_id
from services.shared.jobs import Job
from services.shared.messaging import UnitOfWork

TITLE_ROWS: Final = 10
"""Rows at the beginning of a file among which its header is looked for, to tell where it is."""


@dataclass(frozen=True, slots=True)
class Import:
    """An import with its jobs; a job is None when it was not asked for, or is gone after its retention.
    `announcing` is the time that the welcomes of its plan take."""

    document: Document
    plan: Job | None
    apply: Job | None
    announcing: timedelta = timedelta()

    @property
    def id(self) -> str:
        return str(self.document["_id"])

    @property
    def state(self) -> str:
        """planning, planned, applying, applied; paused, failed or cancelled like the job in hand; expired."""
        document = self.document
        if document["apply_job"]:
            done = "applied" if document.get("applied_at") else "expired"
            return _state(self.apply, "applying", done)
        done = "planned" if document.get("planned_at") else "expired"
        return _state(self.plan, "planning", done)


class Imports:
    def __init__(
        self, core: Core, store: ImportStore, pages: Pages, announcing: Announcing, made: MadeIds
    ) -> None:
        self._made = made
        self._outbox = core.runtime.outbox
        self._clock = core.runtime.server_clock
        self._jobs = core.runtime.jobs
        self._vault = core.vault
        self._taken_phones = core.taken_phones
        self._notices = core.notices
        self._reader = core.reader
        self._store = store
        self._pages = pages
        self._announcing = announcing

    async def add(
        self,
        caller: Identity,
        kind: Kind,
        content: AsyncIterator[bytes],
        mapping: Mapping[str, str],
        terms: Terms,
        request: Callable[[], IdempotentRequest] | None = None,
    ) -> Import:
        """Keep the file and begin to plan. Whether it can be read at all is told at once.

        `request` is called when `content` has been read to its end: a repeated one is answered with the
        import that it made before.

        Raises: `InvalidError` for a file that cannot be imported; `NotFoundError` for a unit outside the
        caller's; `TooManyError` for one who was told of too many taken phones; `KeyReusedError`; whatever
        `content` raises when it is cut off, after which there is no import.
        """
        await self._check(caller, terms)
        sample, rest = await _peek(content)
        try:
            form, fields = await asyncio.to_thread(_examine, sample, kind, mapping)
        except UnreadableError as error:
            raise refused_file(error) from None
        import_id = new_id()
        length = await self._jobs.inputs.store(import_id, rest, self._vault)
        document = {
            "_id": import_id,
            "by": caller.subject,
            "unit": caller.unit,
            "at": self._clock.now(),
            "form": form_to(form),
            "header": await self._pages.seal_header(import_id, form.header),
            "fields": list(fields),
            "length": length,
            "terms": terms_to(terms),
            "counts": {},
            "apply_job": None,
        }
        return await self._begin(caller, document, request() if request else None)

    async def _check(self, caller: Identity, terms: Terms) -> None:
        if caller.unit is None:
            raise NotFoundError
        self._taken_phones.check_may_ask(caller)
        if terms.unit is not None:
            caller.check_access(terms.unit)
        if terms.consents and not await self._notices.find(terms.notice, terms.notice_language):
            raise unknown_notice("query")

    async def _begin(self, caller: Identity, document: Document, sent: IdempotentRequest | None) -> Import:
        """Add the import and the job that plans it; or answer the import that the same request made before.

        Raises: `KeyReusedError`.
        """
        import_id = document["_id"]

        async def add(work: UnitOfWork) -> Job | None:
            if not await self._made.remember(sent, import_id, work.session):
                return None
            await self._store.add(document, work.session)
            return await self._jobs.add(plan_job.KIND, {}, caller, id=import_id, work=work)

        job = await self._outbox.transact(add)
        if job is not None:
            return Import(document, job, None)
        await self._jobs.inputs.delete(import_id)
        earlier = await self._made.earlier(sent)
        assert earlier is not None
        return await self.get(caller, earlier)

    async def get(self, caller: Identity, import_id: str) -> Import:
        """Raises: `NotFoundError`."""
        document = await self._store.find(import_id)
        if document is None or not caller.can_access(document["unit"]):
            raise NotFoundError
        return await self._with_jobs(document)

    async def page(self, caller: Identity, after: str | None, limit: int) -> list[Import]:
        """At most `limit` imports within the caller's units, the newest first."""
        documents = await self._store.page(caller.accessible_root(None), after, limit)
        return [await self._with_jobs(document) for document in documents]

    async def apply(self, caller: Identity, import_id: str) -> Import:
        """Begin to apply the plan, or go on after an application that was cancelled or failed. Doing it twice
        is doing it once.

        Raises: `NotFoundError`; `ConflictError` when there is no plan (yet, or any more).
        """
        found = await self.get(caller, import_id)
        if found.state in ("applying", "paused", "applied") and found.document["apply_job"]:
            return found
        if not found.document.get("planned_at") or found.state == "expired":
            raise not_planned(found.state)
        job_id = new_id()
        before = found.document["apply_job"]

        async def begin(work: UnitOfWork) -> bool:
            if not await self._store.set_apply_job(import_id, before, job_id, work.session):
                return False
            await self._jobs.add(apply_job.KIND, {"import": import_id}, caller, id=job_id, work=work)
            return True

        await self._outbox.transact(begin)
        return await self.get(caller, import_id)

    async def changes(
        self, caller: Identity, import_id: str, after: tuple[str, int] | None, limit: int
    ) -> list[tuple[str, int, PlannedRow]]:
        """At most `limit` rows that the plan would apply, `(page, position, row)`, after a page's position;
        and one more, if more follow. That these `limit` are shown is on record.

        Raises: `NotFoundError`.
        """
        found = await self.get(caller, import_id)
        rows: list[tuple[str, int, PlannedRow]] = []
        async for page in self._store.pages(import_id, after[0] if after else None, PLAN):
            planned = without_erased(await self._pages.planned(page), found.document)
            rows += [
                (page["_id"], n, row)
                for n, row in enumerate(planned)
                if after is None or (page["_id"], n) > after
            ]
            if len(rows) > limit:
                break
        if rows:
            about = (f"import:{import_id}", found.document["unit"])
            await self._reader.record(caller, [row.id for _, _, row in rows[:limit]], "import_rows", about)
        return rows[: limit + 1]

    async def refused(self, caller: Identity, import_id: str) -> AsyncIterator[Sequence[Sequence[str]]]:
        """The refused rows and those set aside, in batches: the file's own header and cells, then the line
        and the reason. That they were read is on record.

        Raises: `NotFoundError`.
        """
        found = await self.get(caller, import_id)
        about = (f"import:{import_id}", found.document["unit"])
        await self._reader.record(caller, [], "import_errors", about)
        return self._refused(found)

    async def _refused(self, found: Import) -> AsyncIterator[Sequence[Sequence[str]]]:
        header = await self._pages.header(found.document)
        yield [[*header, "line", "error"]]
        async for page in self._store.pages(found.id, None, REFUSED, ASIDE):
            rows = [*await self._pages.refused(page), *await self._pages.refused(page, ASIDE)]
            blank = [""] * len(header)
            yield [
                [*[*row.cells, *blank][: len(header)], str(row.line), row.reason]
                for row in sorted(without_erased(rows, found.document), key=lambda row: row.line)
            ]

    async def _with_jobs(self, document: Document) -> Import:
        """The import with its jobs. A job leaves its mark in the document as it ends, which may be after the
        document was read and before the job is: only if there is no new mark then, the import has expired."""
        found = await self._read_jobs(document)
        while found.state == "expired":
            later = await self._store.find(found.id)
            if later is None or _marks(later) == _marks(found.document):
                break
            found = await self._read_jobs(later)
        return found

    async def _read_jobs(self, document: Document) -> Import:
        apply = document["apply_job"]
        return Import(
            document,
            await self._jobs.get(document["_id"]),
            await self._jobs.get(apply) if apply else None,
            self._announcing.takes(document),
        )


def _marks(document: Document) -> tuple[Any, ...]:
    """The fields of the document by which a job says that it was asked for, or has ended."""
    return document["apply_job"], document.get("planned_at"), document.get("applied_at")


def _state(job: Job | None, live: str, done: str) -> str:
    match job and job.state:
        case "waiting" | "running":
            return live
        case "paused" | "failed" | "cancelled" as state:
            return state
        case _:
            return done


async def _peek(content: AsyncIterator[bytes]) -> tuple[bytes, AsyncIterator[bytes]]:
    """The beginning of `content`, and all of it again."""
    head = bytearray()
    async for part in content:
        head += part
        if len(head) >= SAMPLE_BYTES:
            break

    async def whole() -> AsyncIterator[bytes]:
        yield bytes(head)
        async for part in content:
            yield part

    return bytes(head[:SAMPLE_BYTES]), whole()


def _examine(sample: bytes, kind: Kind, mapping: Mapping[str, str]) -> tuple[Form, tuple[str | None, ...]]:
    """Raises: `UnreadableError`."""
    form = form_of(sample, kind)
    place, content = Place(form.start, form.line), sample[form.start :][:SLICE_BYTES]
    slice_ = read_slice(form, content, place, at_end=form.start + len(content) == len(sample))
    cells = [row.cells for row in slice_.rows]
    try:
        fields = columns(form.header, mapping, cells)
    except UnreadableError as error:
        if error.reason == "no_phone_column":
            _check_title(form, slice_.rows)
        raise
    if "name" in fields:
        at = fields.index("name")
        if mostly_legacy([row[at] for row in cells if len(row) > at]):
            detail = "names are in a Hindi font from before Unicode (Kruti Dev or kin): convert them"
            raise UnreadableError("legacy_font", detail)
    return form, fields


def _check_title(form: Form, rows: Sequence[Row]) -> None:
    """Raises: `UnreadableError` when the header stands below, under a title or a date."""
    for row in rows[:TITLE_ROWS]:
        if is_header(row.cells):
            above = f"line {form.line - 1} is no header, but line {row.line} is: delete the lines above it"
            raise UnreadableError("title_above_header", above)
