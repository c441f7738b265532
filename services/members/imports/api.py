"""The routes of imports."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Final

from defusedcsv import csv as safe_csv
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from services.members.core.api import Id
from services.members.imports.domain import CONSENTS_SCOPE, Terms
from services.members.imports.reading import Kind
from services.members.imports.schemas import (
    ImportOut,
    Mapping_,
    PlannedShown,
    import_view,
    mapping_of,
    planned_view,
    terms_of,
)
from services.members.imports.service import Imports
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.idempotency import IdempotencyKey, IdempotentFile
from services.shared.http.pagination import Page, Paging
from services.shared.http.problem import Problem
from services.shared.identity import Identity

Reader = Annotated[Identity, Depends(require("members:read"))]
RowReader = Annotated[Identity, Depends(require("members:read", "contacts:read"))]
"""A row of a plan names who has the phone that the file has in that line."""
Importer = Annotated[Identity, Depends(require("members:write", "contacts:read"))]
"""A plan tells whose phone and address a row has, and refused rows are shown as they were sent."""
ForAllRows = Annotated[Terms, Depends(terms_of)]

PATH: Final = "/v1/imports"
MAX_IMPORT_BYTES: Final = 1024**3
_KINDS: Final[dict[str, Kind]] = {
    "text/csv": "csv",
    "text/tab-separated-values": "csv",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
}
_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {name: {"schema": {"type": "string"}} for name in ("text/csv", "application/x-ndjson")},
    }
}


def imports_router(imports: Imports) -> APIRouter:
    router = APIRouter(prefix=PATH, tags=["imports"], route_class=Route)

    @router.post(
        "",
        status_code=202,
        response_model=ImportOut,
        responses=problems(400, 404, 413, 415, 422),
        openapi_extra=_BODY,
    )
    async def import_members(
        request: Request,
        caller: Importer,
        terms: ForAllRows,
        key: IdempotentFile,
        mapping: Mapping_ = None,
    ) -> Response:
        """Send a file of members: a plan is made of it (202), which shows what applying it would do.

        CSV with comma, semicolon or tab, in UTF-8, UTF-16 or Windows-1252, or NDJSON; at most 1 GiB. Columns
        are recognised by their names in English and Hindi. Nothing is written before the plan is applied. A
        file with columns for caste, religion, voter id or Aadhaar is refused. An Idempotency-Key makes a
        repeated request answer the same import.
        """
        _check_scope(caller, terms.consents)
        kind, content, sent = _kind(request), _content(request, key), key.request if key else None
        found = await imports.add(caller, kind, content, mapping_of(mapping), terms, sent)
        return JSON(import_view(found), 202, {"Location": f"{PATH}/{found.id}"})

    @router.get("", response_model=Page[ImportOut])
    async def list_imports(caller: Reader, paging: Paging) -> Response:
        """The imports of your units, the newest first."""
        window = paging.window("imports", {"root": caller.unit}, (str,))
        rows = await imports.page(caller, window.after_id, window.limit + 1)
        page, cursor = window.cut(rows, lambda each: (each.id,))
        return JSON({"items": [import_view(each) for each in page], "next": cursor})

    @router.get("/{id}", response_model=ImportOut)
    async def get_import(caller: Reader, id: Id) -> Response:
        """The plan, how far it is, and what was applied."""
        return JSON(import_view(await imports.get(caller, id)))

    @router.get("/{id}/rows", response_model=Page[PlannedShown])
    async def get_rows(caller: RowReader, id: Id, paging: Paging) -> Response:
        """The rows that the plan would still write, field by field, in the order of the file. That you saw
        them is on record, like a reading of contacts: a row tells who has the phone in that line."""
        window = paging.window("import-rows", {"id": id}, (str, int))
        after = (str(window.after[0]), int(window.after[1])) if window.after else None
        rows = await imports.changes(caller, id, after, window.limit)
        page, cursor = window.cut(rows, lambda each: each[:2])
        return JSON({"items": [planned_view(row) for _, _, row in page], "next": cursor})

    @router.post("/{id}/apply", status_code=202, response_model=ImportOut, responses=problems(409))
    async def apply_import(caller: Importer, id: Id) -> Response:
        """Write what the plan shows, as a job. Rows whose member has changed since are set aside."""
        _check_scope(caller, (await imports.get(caller, id)).document["terms"]["consents"])
        found = await imports.apply(caller, id)
        return JSON(import_view(found), 202, {"Location": f"/v1/jobs/{found.document['apply_job']}"})

    @router.get("/{id}/errors", response_class=Response, responses={200: {"content": {"text/csv": {}}}})
    async def get_errors(caller: Importer, id: Id) -> Response:
        """The rows that were refused or set aside, as a CSV with the line and the reason: mend it and send it
        again."""
        batches = await imports.refused(caller, id)
        name = {"Content-Disposition": f'attachment; filename="import-{id[:8]}-errors.csv"'}
        return StreamingResponse(_csv(batches), headers=name, media_type="text/csv; charset=utf-8")

    return router


async def _content(request: Request, key: IdempotencyKey | None) -> AsyncIterator[bytes]:
    async for piece in request.stream():
        if key:
            key.add(piece)
        yield piece


def _kind(request: Request) -> Kind:
    """Raises: `Problem` for a type that is not taken."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in _KINDS:
        detail = "send text/csv or application/x-ndjson"
        raise Problem(415, "unsupported-media-type", "Unsupported media type", detail)
    return _KINDS[content_type]


def _check_scope(caller: Identity, consents: Sequence[Any]) -> None:
    """Raises: `Problem`."""
    if consents and not caller.has_scope(CONSENTS_SCOPE):
        raise Problem(403, "insufficient-scope", "Forbidden", f"consents need the scope {CONSENTS_SCOPE}")


async def _csv(batches: AsyncIterator[Sequence[Sequence[str]]]) -> AsyncIterator[str]:
    """CSV that no spreadsheet takes for formulas, with the mark by which spreadsheets know UTF-8."""
    yield "\ufeff"
    async for rows in batches:
        text = io.StringIO()
        safe_csv.writer(text, quoting=csv.QUOTE_MINIMAL).writerows(rows)
        yield text.getvalue()
