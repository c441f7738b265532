"""The HTTP API of groups."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Path, Query, Response

from services.groups.chat_groups.domain import GroupPatch
from services.groups.chat_groups.schemas import (
    GroupChange,
    GroupMemberOut,
    GroupOut,
    ResolveIn,
    ResolveOut,
    group_member_out,
    group_out,
)
from services.groups.chat_groups.service import ChatGroupService
from services.groups.core.domain import GroupState, PlacementState
from services.groups.core.schemas import Id
from services.shared.contracts.vocabulary import GroupKind, UnitCode
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.etag import IfMatch, etag
from services.shared.http.pagination import Page, Paging
from services.shared.identity import Identity
from services.shared.messaging import Origin

Reader = Annotated[Identity, Depends(require("groups:read"))]
Changer = Annotated[Identity, Depends(require("groups:write", "groups:read"))]
GroupId = Annotated[Id, Path(alias="id")]


def chat_groups_router(groups: ChatGroupService) -> APIRouter:
    router = APIRouter(prefix="/v1", route_class=Route)

    @router.get("/groups", response_model=Page[GroupOut], responses=problems(404))
    async def list_groups(
        paging: Paging,
        caller: Reader,
        unit: Annotated[UnitCode | None, Query(description="The subtree of this unit.")] = None,
        kind: Annotated[GroupKind | None, Query()] = None,
        state: Annotated[GroupState | None, Query()] = None,
    ) -> Response:
        root = caller.accessible_root(unit)
        window = paging.window("groups", {"unit": root, "kind": kind, "state": state}, (str, str))
        after = cast("tuple[str, str] | None", window.after)
        found = await groups.find(caller, root, kind, state, after, window.limit + 1)
        page, cursor = window.cut(found, lambda group: (group.unit, group.id))
        shown = await groups.shown(caller, page)
        return JSON({"items": [group_out(group) for group in shown], "next": cursor})

    @router.post("/groups/resolve", response_model=ResolveOut)
    async def resolve_groups(body: ResolveIn, caller: Reader) -> Response:
        """Many groups by their ids; those unknown or outside the caller's units are `missing`."""
        found = await groups.shown(caller, await groups.resolve(caller, body.ids))
        seen = {group.id for group in found}
        missing = [id_ for id_ in body.ids if id_ not in seen]
        return JSON({"items": [group_out(group) for group in found], "missing": missing})

    @router.get("/groups/{id}", response_model=GroupOut)
    async def get_group(group_id: GroupId, caller: Reader) -> Response:
        group = await groups.get(caller, group_id)
        [shown] = await groups.shown(caller, [group])
        return JSON(group_out(shown), headers={"ETag": etag(group.version)})

    @router.patch("/groups/{id}", response_model=GroupOut)
    async def patch_group(
        group_id: GroupId, body: GroupChange, version: IfMatch, caller: Changer
    ) -> Response:
        """Change the invite link (null withdraws it), the capacity or the name."""
        patch = cast(GroupPatch, body.model_dump(exclude_unset=True))
        group = await groups.change(caller, group_id, patch, version, Origin.here())
        [shown] = await groups.shown(caller, [group])
        return JSON(group_out(shown), headers={"ETag": etag(group.version)})

    @router.get("/groups/{id}/members", response_model=Page[GroupMemberOut])
    async def list_group_members(
        group_id: GroupId,
        paging: Paging,
        caller: Reader,
        state: Annotated[PlacementState | None, Query()] = None,
    ) -> Response:
        window = paging.window("group-members", {"group": group_id, "state": state}, (str,))
        found = await groups.members(caller, group_id, state, window.after_id, window.limit + 1)
        page, cursor = window.cut(found, lambda placement: (placement.member_id,))
        return JSON({"items": [group_member_out(placement) for placement in page], "next": cursor})

    return router
