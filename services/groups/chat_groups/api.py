"""The HTTP API of groups."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Path, Query, Response

from services.groups.chat_groups.domain import GroupPatch
from services.groups.chat_groups.schemas import (
    GroupChange,
    GroupMemberOut,
    GroupOut,
    OpeningIn,
    ResolveIn,
    ResolveOut,
    SplitIn,
    group_member_out,
    group_out,
)
from services.groups.chat_groups.service import ChatGroupService
from services.groups.chat_groups.upkeep import Upkeep
from services.groups.core.domain import GroupState, PlacementState
from services.groups.core.schemas import Id
from services.shared.contracts.vocabulary import GroupKind, UnitCode
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.etag import IfMatch, etag
from services.shared.http.pagination import Page, Paging
from services.shared.identity import Identity
from services.shared.messaging import Origin
from services.shared.runtime import JobOut, accepted

Reader = Annotated[Identity, Depends(require("groups:read"))]
Changer = Annotated[Identity, Depends(require("groups:write", "groups:read"))]
GroupId = Annotated[Id, Path(alias="id")]


def chat_groups_router(groups: ChatGroupService, upkeep: Upkeep) -> APIRouter:
    router = APIRouter(prefix="/v1", route_class=Route)

    @router.get("/groups", response_model=Page[GroupOut], responses=problems(404))
    async def list_groups(
        paging: Paging,
        caller: Reader,
        unit: Annotated[UnitCode | None, Query(description="The subtree of this unit.")] = None,
        kind: Annotated[GroupKind | None, Query()] = None,
        state: Annotated[GroupState | None, Query()] = None,
        archived: Annotated[bool, Query(description="Groups that were archived, instead.")] = False,
    ) -> Response:
        root = caller.accessible_root(unit)
        window = paging.window(
            "groups", {"unit": root, "kind": kind, "state": state, "archived": archived}, (str, str)
        )
        after = cast("tuple[str, str] | None", window.after)
        found = await groups.find(caller, root, kind, state, after, window.limit + 1, archived=archived)
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
        page, cursor = window.cut(found, lambda row: (row[0],))
        return JSON(
            {"items": [group_member_out(member_id, seat) for member_id, seat in page], "next": cursor}
        )

    @router.post("/groups/openings", response_model=JobOut, status_code=202, responses=problems(404, 422))
    async def open_groups(body: OpeningIn, caller: Changer) -> Response:
        """Open a group in each unit of a level in a subtree that has none of that kind, ahead of members."""
        return accepted(await upkeep.open(caller, body.unit, body.level, body.kind.value))

    @router.post("/groups/{id}/split", response_model=JobOut, status_code=202, responses=problems(404, 409))
    async def split_group(group_id: GroupId, body: SplitIn, caller: Changer) -> Response:
        """Give the group no more than `capacity` seats. Those who came last move to the unit's other groups,
        or to new ones; until they have, nobody gets a seat in this one."""
        return accepted(await upkeep.split(caller, group_id, body.capacity))

    @router.post("/groups/{id}/merge", response_model=JobOut, status_code=202, responses=problems(404, 409))
    async def merge_group(group_id: GroupId, caller: Changer) -> Response:
        """Move all members to the free seats of the unit's other groups, then archive the group."""
        return accepted(await upkeep.merge(caller, group_id))

    @router.post("/groups/{id}/reopen", response_model=GroupOut, responses=problems(404, 409))
    async def reopen_group(group_id: GroupId, caller: Changer) -> Response:
        """Let a group take members again whose split or merge was cancelled or has failed."""
        group = await upkeep.reopen(caller, group_id, Origin.here())
        [shown] = await groups.shown(caller, [group])
        return JSON(group_out(shown), headers={"ETag": etag(group.version)})

    @router.post("/groups/{id}/archive", response_model=GroupOut, responses=problems(404, 409))
    async def archive_group(group_id: GroupId, caller: Changer) -> Response:
        """Take an empty group out of use for good, with its link."""
        group = await upkeep.archive(caller, group_id, Origin.here())
        [shown] = await groups.shown(caller, [group])
        return JSON(group_out(shown), headers={"ETag": etag(group.version)})

    return router
