"""The route of the record of reads."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from services.members.reads.schemas import ReadParams, ReadShown, position_of, read_view
from services.members.reads.service import Reads
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.pagination import Page, Paging
from services.shared.identity import Identity

Auditor = Annotated[Identity, Depends(require("reads:read"))]


def reads_router(reads: Reads) -> APIRouter:
    router = APIRouter(prefix="/v1/reads", tags=["reads"], route_class=Route)

    @router.get("", response_model=Page[ReadShown], responses=problems(404))
    async def list_reads(caller: Auditor, paging: Paging, params: Annotated[ReadParams, Query()]) -> Response:
        """List whose data a `subject` has seen, or who has seen a `member`'s: an item for each member of each
        read, the newest first.

        A caller bound to a unit sees the reads of members who are in it now; a page may then have fewer items
        than `limit`. No contact is shown, so this is not a read itself.
        """
        window = paging.window("reads", params.filters(), (int, str, int))
        seen = await reads.page(caller, params.search(), position_of(window.after), window.limit + 1)
        page, cursor = window.cut(seen.all, lambda each: tuple(each.position))
        return JSON({"items": [read_view(each) for each in page if each in seen.visible], "next": cursor})

    return router
