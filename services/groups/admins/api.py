"""The routes of group admins."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Path, Query, Response

from services.groups.admins.domain import Lack
from services.groups.admins.page.tokens import PageTokens
from services.groups.admins.schemas import (
    AdminsOut,
    GapOut,
    PageIn,
    PageOut,
    TasksOut,
    admins_out,
    gap_out,
    task_out,
)
from services.groups.admins.service import AdminService
from services.groups.core.schemas import Id
from services.shared.contracts.vocabulary import UnitCode
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.pagination import Page, Paging
from services.shared.identity import Identity

Reader = Annotated[Identity, Depends(require("groups:read"))]
Writer = Annotated[Identity, Depends(require("groups:write"))]
Inviter = Annotated[Identity, Depends(require("groups:write", "invites:read", "contacts:read"))]
"""The page shows the link and the numbers of those who are to be added or removed."""
GroupId = Annotated[Id, Path(alias="id")]
MemberId = Annotated[Id, Path()]


def admins_router(admins: AdminService, tokens: PageTokens, base_url: str) -> APIRouter:
    router = APIRouter(prefix="/v1/groups", route_class=Route)

    @router.get("/gaps", response_model=Page[GapOut], responses=problems(404))
    async def list_gaps(
        paging: Paging,
        caller: Reader,
        unit: Annotated[UnitCode | None, Query(description="The subtree of this unit.")] = None,
        problem: Annotated[Lack | None, Query()] = None,
    ) -> Response:
        """Groups that lack a link, or have fewer than two admins."""
        root = caller.accessible_root(unit)
        window = paging.window("group-gaps", {"unit": root, "problem": problem}, (str, str))
        after = cast("tuple[str, str] | None", window.after)
        found = await admins.gaps(caller, root, problem, after, window.limit + 1)
        page, cursor = window.cut(found, lambda group: (group.unit, group.id))
        return JSON({"items": [gap_out(group) for group in page], "next": cursor})

    @router.get("/{id}/admins", response_model=AdminsOut)
    async def get_admins(group_id: GroupId, caller: Reader) -> Response:
        """The people who run the group, and those who could, by their roles in its unit or above."""
        return JSON(admins_out(await admins.run_by(caller, group_id)))

    @router.put("/{id}/admins/{member_id}", response_model=AdminsOut, responses=problems(409))
    async def appoint_admin(group_id: GroupId, member_id: MemberId, caller: Writer) -> Response:
        await admins.appoint(caller, group_id, member_id)
        return JSON(admins_out(await admins.run_by(caller, group_id)))

    @router.delete("/{id}/admins/{member_id}", response_model=AdminsOut)
    async def dismiss_admin(group_id: GroupId, member_id: MemberId, caller: Writer) -> Response:
        """Their links to the group's page end, too."""
        await admins.dismiss(caller, group_id, member_id)
        return JSON(admins_out(await admins.run_by(caller, group_id)))

    @router.get("/{id}/tasks", response_model=TasksOut)
    async def get_tasks(group_id: GroupId, caller: Reader) -> Response:
        """Open tasks for the group's admins: whom to add, whom to remove, for whom somebody must follow."""
        await admins.group(caller, group_id)
        return JSON({"items": [task_out(task) for task in await admins.tasks(group_id)]})

    @router.post("/{id}/pages", status_code=201, response_model=PageOut)
    async def issue_page(group_id: GroupId, body: PageIn, caller: Inviter) -> Response:
        """A link to the page on which the group's admins work, on any phone."""
        page = await admins.issue_page(caller, group_id, body.member_id)
        token = tokens.sign(page.id, page.expires_at)
        return JSON({"url": f"{base_url.rstrip('/')}/admin/{token}", "expires_at": page.expires_at}, 201)

    @router.delete("/{id}/pages", status_code=204, response_class=Response)
    async def revoke_pages(group_id: GroupId, caller: Writer) -> Response:
        """End all links to the group's page: somebody has lost a phone."""
        await admins.revoke_pages(caller, group_id)
        return Response(status_code=204)

    return router
