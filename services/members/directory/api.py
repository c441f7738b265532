"""The routes that read members."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from services.members.core.api import Id, Reader, member_answer, members_router
from services.members.core.reading import CONTACTS_SCOPE
from services.members.core.schemas import MemberShown, member_view
from services.members.directory.schemas import Ids, Resolved, SearchParams, contact_view
from services.members.directory.service import Directory
from services.shared.http.auth import require
from services.shared.http.body import JSON, problems
from services.shared.http.pagination import Page, Paging
from services.shared.identity import Identity

ContactReader = Annotated[Identity, Depends(require(CONTACTS_SCOPE))]


def directory_router(directory: Directory) -> APIRouter:
    router = members_router()

    @router.get("", response_model=Page[MemberShown], responses=problems(404))
    async def list_members(
        caller: Reader, paging: Paging, params: Annotated[SearchParams, Query()]
    ) -> Response:
        """Members of the caller's subtree, oldest first."""
        window = paging.window("members", params.model_dump(), (str,))
        records = await directory.page(caller, params.search(), window.after_id, window.limit + 1)
        page, cursor = window.cut(records, lambda record: (record.member.id,))
        shown = await directory.show_page(caller, page)
        return JSON({"items": [member_view(each.member, each.contact) for each in shown], "next": cursor})

    @router.post("/resolve", response_model=Resolved)
    async def resolve(caller: ContactReader, body: Ids) -> Response:
        """Names and addresses of up to 500 members, for services that write to them. Calls are recorded."""
        pairs, missing = await directory.resolve(caller, body.ids)
        return JSON({"items": [contact_view(*pair) for pair in pairs], "missing": missing})

    @router.get("/{id}", response_model=MemberShown)
    async def get_member(caller: Reader, id: Id) -> Response:
        """One member, also one who has left."""
        shown = await directory.get(caller, id)
        return member_answer(shown.member, shown.contact)

    return router
