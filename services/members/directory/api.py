"""The routes that read members."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from services.members.core.api import Id, Reader, member_answer, members_router
from services.members.core.reading import CONTACTS_SCOPE
from services.members.core.schemas import MemberShown, View, member_view
from services.members.core.store import Record
from services.members.directory.export import WRITERS
from services.members.directory.schemas import (
    ExportParams,
    Ids,
    MemberPage,
    Order,
    Resolved,
    SearchParams,
    Total,
    contact_view,
)
from services.members.directory.service import Directory
from services.shared.clock import Clock
from services.shared.http.auth import require
from services.shared.http.body import JSON, problems
from services.shared.http.pagination import Paging
from services.shared.identity import Identity

ContactReader = Annotated[Identity, Depends(require(CONTACTS_SCOPE))]
Exporter = Annotated[Identity, Depends(require("members:read", CONTACTS_SCOPE))]
EXPORTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {media: {"schema": {"type": "string"}} for media in ("text/csv", "application/x-ndjson")}
    },
    **problems(404),
}


def directory_router(directory: Directory, clock: Clock) -> APIRouter:
    router = members_router()

    @router.get("", response_model=MemberPage, responses=problems(404))
    async def list_members(
        caller: Reader, paging: Paging, params: Annotated[SearchParams, Query()]
    ) -> Response:
        """Members of the caller's subtree, oldest first, or those whose names answer `q` best."""
        window = paging.window("members", params.filters(), (str,))
        search = directory.within(caller, params.search())
        cursor: str | None = None
        page: Sequence[Record]
        if params.order == Order.RELEVANCE:
            page = await directory.best(search, window.limit)
        else:
            records = await directory.page(search, window.after_id, window.limit + 1)
            page, cursor = window.cut(records, lambda record: (record.member.id,))
            if search.words and cursor is None:
                similar = await directory.similar(search)
                if page and len(page) + len(similar) > window.limit:
                    cursor = window.cursor((page[-1].member.id,))  # they are the next page
                else:
                    page = [*page, *similar[: window.limit]]
        shown = await directory.show_page(caller, page)
        answer: View = {"items": [member_view(each.member, each.contact) for each in shown], "next": cursor}
        if params.count:
            answer["total"] = Total.of(await directory.count(search)).model_dump()
        return JSON(answer)

    @router.get("/export", response_class=StreamingResponse, responses=EXPORTED)
    async def export_members(
        caller: Exporter, params: Annotated[ExportParams, Query()], request: Request
    ) -> Response:
        """All members that match, oldest first, with phone, e-mail and handles: CSV, or NDJSON. What it
        writes can be imported again unchanged. Each batch of members is recorded as read; a stream that ends
        without its last chunk is incomplete."""
        search = directory.within(caller, params.search())
        media_type, head, rows = WRITERS[params.format]
        disposition = {"Content-Disposition": f'attachment; filename="members.{params.format}"'}
        if request.method == "HEAD":  # reads nobody's contact
            return Response(media_type=media_type, headers=disposition)

        async def content() -> AsyncIterator[bytes]:
            yield head()
            async for batch in directory.export(caller, search):
                yield rows(batch)

        return StreamingResponse(content(), media_type=media_type, headers=disposition)

    @router.post("/resolve", response_model=Resolved)
    async def resolve(caller: ContactReader, body: Ids) -> Response:
        """Names and addresses of up to 500 members, for services that write to them. Calls are recorded."""
        pairs, missing = await directory.resolve(caller, body.ids)
        now = clock.now()
        return JSON({"items": [contact_view(*pair, now) for pair in pairs], "missing": missing})

    @router.get("/{id}", response_model=MemberShown)
    async def get_member(caller: Reader, id: Id) -> Response:
        """One member, also one who has left."""
        shown = await directory.get(caller, id)
        return member_answer(shown.member, shown.contact)

    return router
