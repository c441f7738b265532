"""The HTTP API of comparisons."""

from __future__ import annotations

from typing import Annotated, Final, cast

from fastapi import APIRouter, Path, Query, Request, Response

from services.groups.core.schemas import Id
from services.groups.tree.api import Reader, Writer, check_csv, length_of, read_file
from services.groups.tree.redrawing.domain import Kind
from services.groups.tree.redrawing.schemas import ComparisonOut, ComparisonPage, change_out, comparison_out
from services.groups.tree.redrawing.service import Redrawings
from services.groups.tree.service import TreeService
from services.shared.contracts.vocabulary import UnitCode
from services.shared.http.body import JSON, Route, problems
from services.shared.http.idempotency import IdempotentFile
from services.shared.http.pagination import Page, Paging
from services.shared.http.problem import bad_request
from services.shared.runtime import JobOut, accepted

COMPARISONS_PATH: Final = "/v1/units/comparisons"
ComparisonId = Annotated[Id, Path(alias="id")]


def redrawing_router(tree: TreeService, redrawings: Redrawings) -> APIRouter:
    router = APIRouter(prefix=COMPARISONS_PATH, route_class=Route)

    @router.post(
        "",
        status_code=202,
        response_model=JobOut,
        responses=problems(400, 404, 413, 415, 422),
        openapi_extra={
            "requestBody": {"required": True, "content": {"text/csv": {"schema": {"type": "string"}}}}
        },
    )
    async def compare(
        request: Request,
        caller: Writer,
        key: IdempotentFile,
        unit: Annotated[UnitCode | None, Query(description="Compare the tree below, and this unit.")] = None,
    ) -> Response:
        """Compare a whole tree, as it is to be, with the present one; nothing is changed by it.

        CSV as for imports, and `predecessor`: the units that a new one succeeds. A unit that goes may have a
        row of its own, with `successor`. Units of the tree that the file does not have vanish. The job's id
        is the comparison's.
        """
        redrawings.check_may(caller, unit)
        check_csv(request)
        with tree.files.receive(caller.subject, length_of(request)) as file:
            try:
                await read_file(request, file, key)
                sent = key.request() if key else None
                if job := await redrawings.earlier(sent):
                    return accepted(job)
                lines = await redrawings.check(caller, unit, file)
            except UnicodeDecodeError as error:
                raise bad_request("not-utf8", "the file is not UTF-8") from error
            return accepted(await redrawings.compare(caller, unit, lines, sent))

    @router.get("", response_model=Page[ComparisonOut])
    async def list_comparisons(paging: Paging, caller: Reader) -> Response:
        """The newest first; they are kept for 30 days."""
        root = caller.accessible_root(None)
        window = paging.window("comparisons", {"root": root}, (str,))
        found = await redrawings.page(caller, window.after_id, window.limit + 1)
        page, cursor = window.cut(found, lambda comparison: (comparison.id,))
        return JSON({"items": [comparison_out(comparison) for comparison in page], "next": cursor})

    @router.get("/{id}", response_model=ComparisonPage)
    async def get_comparison(
        comparison_id: ComparisonId,
        paging: Paging,
        caller: Reader,
        kind: Annotated[Kind | None, Query()] = None,
    ) -> Response:
        """The comparison and its changes, in the order in which they are applied."""
        comparison = await redrawings.get(caller, comparison_id)
        window = paging.window("comparison", {"id": comparison_id, "kind": kind}, (int,))
        after = cast(int, window.after[0]) if window.after else -1
        word = kind.value if kind else None
        found = await redrawings.changes(caller, comparison_id, word, after, window.limit + 1)
        page, cursor = window.cut(list(found.items()), lambda each: (each[0],))
        items = [change_out(change) for _, change in page]
        return JSON({"items": items, "next": cursor, "comparison": comparison_out(comparison)})

    @router.post("/{id}/apply", status_code=202, response_model=JobOut, responses=problems(409))
    async def apply_comparison(comparison_id: ComparisonId, caller: Writer) -> Response:
        """Apply it as a job. Repeating it answers the same job; a comparison whose job was cancelled goes on
        where that one ended. 409 when a change is refused, the tree has changed since it was compared, or
        another comparison is being applied."""
        return accepted(await redrawings.apply(caller, comparison_id))

    return router
