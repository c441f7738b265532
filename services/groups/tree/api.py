"""The HTTP API of the tree."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import AfterValidator, StringConstraints

from services.groups.core.levels import LevelWord
from services.groups.tree.files import ImportFile
from services.groups.tree.import_job import UnitImportJob
from services.groups.tree.schemas import (
    ImportOut,
    LevelsIn,
    LevelsOut,
    UnitIn,
    UnitOut,
    import_out,
    levels_out,
    unit_of,
    unit_out,
)
from services.groups.tree.service import TreeService
from services.groups.tree.store import Filters
from services.shared.contracts.vocabulary import Constituency, UnitCode
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.etag import Preconditions, etag
from services.shared.http.idempotency import IdempotencyKey, IdempotentFile
from services.shared.http.pagination import Page, Paging
from services.shared.http.problem import Problem, bad_request
from services.shared.http.values import Digits
from services.shared.identity import Identity
from services.shared.messaging import Origin
from services.shared.runtime import JobOut, accepted
from services.shared.text import refuse, searchable_words

Reader = Annotated[Identity, Depends(require("groups:read"))]
Writer = Annotated[Identity, Depends(require("groups:write"))]
Overall = Annotated[Identity, Depends(require("groups:write", everywhere=True))]
Code = Annotated[UnitCode, Path(description="A unit code, such as BR-SARAN.")]


def _has_words(text: str) -> str:
    if not searchable_words(text):
        raise refuse("must contain a letter or a digit")
    return text


SearchText = Annotated[str, StringConstraints(max_length=100), AfterValidator(_has_words)]
MAX_WORDS: Final = 8

_CSV_PARAMETERS: Final = frozenset({"", "charset=utf-8", "header=present"})
"""Parameters of text/csv (RFC 7111, 5.1) with the values that hold: another charset would be misread."""
IMPORTS_PATH: Final = "/v1/units/imports"
MAX_IMPORT_BYTES: Final = 32 * 1024 * 1024
"""A whole state's booths (about 80,000 rows) are 8 MB."""

MAX_ROWS_AT_ONCE: Final = 5000
"""Rows that a request loads by itself."""


def tree_router(tree: TreeService, imports: UnitImportJob) -> APIRouter:
    router = APIRouter(prefix="/v1", route_class=Route)

    @router.get("/units/levels", response_model=LevelsOut)
    async def get_levels(caller: Reader) -> Response:
        """The levels of the tree, from the root."""
        found = await tree.tree()
        return JSON(levels_out(found), headers={"ETag": etag(found.levels_version)})

    @router.put("/units/levels", response_model=LevelsOut, responses=problems(403, 409))
    async def put_levels(body: LevelsIn, caller: Overall, preconditions: Preconditions) -> Response:
        """Set the levels, at most eight. Units stay of the level that they are of: levels can be added below,
        and those changed that no unit is of (409). For callers who have all units."""
        found = await tree.set_levels(caller, body.levels, preconditions.check)
        return JSON(levels_out(found), headers={"ETag": etag(found.levels_version)})

    @router.get("/units", response_model=Page[UnitOut], responses=problems(404))
    async def find_units(
        paging: Paging,
        caller: Reader,
        q: Annotated[
            SearchText | None,
            Query(description="Beginnings of words of a name, in any script, however spelt."),
        ] = None,
        unit: Annotated[UnitCode | None, Query(description="The subtree of this unit.")] = None,
        level: Annotated[LevelWord | None, Query()] = None,
        constituency: Annotated[Constituency | None, Query(description="Its number."), Digits] = None,
        retired: Annotated[bool, Query(description="Units that are live no more, and only they.")] = False,
    ) -> Response:
        """Units, in the order of their codes."""
        root = caller.accessible_root(unit)
        words = searchable_words(q)[:MAX_WORDS] if q else ()
        told = {"q": words, "unit": root, "level": level, "constituency": constituency, "retired": retired}
        window = paging.window("units", told, (str,))
        filters = Filters(words, level, constituency, retired)
        units = await tree.find(caller, root, filters, window.after_id, window.limit + 1)
        page, cursor = window.cut(units, lambda unit: (unit.code,))
        return JSON({"items": [unit_out(unit) for unit in page], "next": cursor})

    @router.put(
        "/units/{code}", responses={200: {"model": UnitOut}, 201: {"model": UnitOut}, **problems(409)}
    )
    async def put_unit(code: Code, body: UnitIn, caller: Writer, preconditions: Preconditions) -> Response:
        """Create a unit (201) or change it (200). Its parent must exist."""
        unit, created = await tree.put(caller, unit_of(code, body), preconditions.check, Origin.here())
        headers = {"ETag": etag(unit.version)} | ({"Location": f"/v1/units/{code}"} if created else {})
        return JSON(unit_out(unit), 201 if created else 200, headers)

    @router.get("/units/{code}", response_model=UnitOut)
    async def get_unit(code: Code, caller: Reader) -> Response:
        unit = await tree.get(caller, code)
        return JSON(unit_out(unit), headers={"ETag": etag(unit.version)})

    @router.get("/units/{code}/children", response_model=Page[UnitOut])
    async def get_children(code: Code, paging: Paging, caller: Reader) -> Response:
        """The live units directly below, in the order of their codes."""
        window = paging.window("units", {"parent": code}, (str,))
        units = await tree.children(caller, code, window.after_id, window.limit + 1)
        page, cursor = window.cut(units, lambda unit: (unit.code,))
        return JSON({"items": [unit_out(unit) for unit in page], "next": cursor})

    @router.post(
        "/units/imports",
        response_model=ImportOut,
        responses={202: {"model": JobOut}, **problems(400, 404, 413, 415, 422)},
        openapi_extra={
            "requestBody": {"required": True, "content": {"text/csv": {"schema": {"type": "string"}}}}
        },
    )
    async def import_units(
        request: Request,
        caller: Writer,
        key: IdempotentFile,
        dry_run: Annotated[bool, Query(description="Check and count, write nothing.")] = False,
    ) -> Response:
        """Load a tree from CSV with the header `code,level,name_en,name_hi,women_target`, and after it, if
        they are to be set, `ac_no,ac_name_en,ac_name_hi`: the assembly constituency.

        The file, of at most 200,000 rows, is checked as a whole before anything is written. Up to 5,000 rows
        are loaded at once (200); more become a job (202), whose `result` is what a shorter file is answered
        with. An Idempotency-Key makes a repeated request answer the same job. A caller may have one file at a
        time on its way (429).
        """
        tree.check_may_import(caller)
        check_csv(request)
        with tree.files.receive(caller.subject, length_of(request)) as file:
            try:
                await read_file(request, file, key)
                sent = key.request() if key else None
                if job := await imports.earlier(sent):
                    return accepted(job)
                units = await tree.check_import(caller, file)
            except UnicodeDecodeError as error:
                raise bad_request("not-utf8", "the file is not UTF-8") from error
            if len(units) > MAX_ROWS_AT_ONCE:
                return accepted(await imports.add(caller, units, dry_run=dry_run, request=sent))
            return JSON(import_out(await tree.load(units, Origin.here(), dry_run=dry_run), dry_run=dry_run))

    return router


def check_csv(request: Request) -> None:
    if not _is_csv(request.headers.get("content-type", "")):
        raise Problem(415, "unsupported-media-type", "Unsupported media type", "send text/csv in UTF-8")


async def read_file(request: Request, file: ImportFile, key: IdempotencyKey | None) -> None:
    async for piece in request.stream():
        file.add(piece)
        if key:
            key.add(piece)


def _is_csv(content_type: str) -> bool:
    kind, *parameters = (part.strip().lower() for part in content_type.replace('"', "").split(";"))
    return kind == "text/csv" and _CSV_PARAMETERS.issuperset(parameters)


def length_of(request: Request) -> int:
    """The bytes of the body; 0 if it does not say."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0
