"""The HTTP API of the groups service: in and out, no logic."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from services.groups.domain import GroupState, PlacementState
from services.groups.groups import Groups
from services.groups.schemas import (
    GroupChange,
    GroupMemberOut,
    GroupOut,
    Id,
    ImportOut,
    PlacementsOut,
    ResolveIn,
    ResolveOut,
    UnitIn,
    UnitOut,
    UnitRow,
    group_out,
    placement_out,
    unit_out,
)
from services.groups.store import Store
from services.groups.units import Units
from services.shared.contracts.vocabulary import GroupKind, UnitCode, level_of
from services.shared.http.auth import Identity, require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.etag import IfMatch, etag
from services.shared.http.pagination import Page, Paging
from services.shared.http.problem import FieldError, Problem, bad_request, invalid, not_found
from services.shared.messaging import Origin

router = APIRouter(prefix="/v1", route_class=Route)

Reader = Annotated[Identity, Depends(require("groups:read"))]
Writer = Annotated[Identity, Depends(require("groups:write"))]
Code = Annotated[UnitCode, Path(description="A unit code, such as BR-SARAN.")]
GroupId = Annotated[Id, Path(alias="id")]

IMPORTS_PATH = "/v1/units/imports"
MAX_IMPORT_BYTES = 32 * 1024 * 1024
"""A whole state's booths (about 80,000 rows) are 8 MB; the tree is checked as one, so it is held in memory."""


def _store(request: Request) -> Store:
    return cast(Store, request.app.state.store)


def _units(request: Request) -> Units:
    return cast(Units, request.app.state.units)


def _groups(request: Request) -> Groups:
    return cast(Groups, request.app.state.groups)


@router.put("/units/{code}", responses={200: {"model": UnitOut}, 201: {"model": UnitOut}, **problems(409)})
async def put_unit(request: Request, code: Code, body: UnitIn, caller: Writer) -> Response:
    """Create a unit (201) or change it (200). Its parent must exist."""
    caller.check_access(code)
    row = _row(code, body)
    unit, created = await _units(request).put(row, Origin.here())
    headers = {"ETag": etag(unit["version"])} | ({"Location": f"/v1/units/{code}"} if created else {})
    return JSON(unit_out(unit), 201 if created else 200, headers)


@router.get("/units/{code}", response_model=UnitOut)
async def get_unit(request: Request, code: Code, caller: Reader) -> Response:
    caller.check_access(code)
    unit = (await _store(request).units([code])).get(code)
    if unit is None:
        raise not_found()
    return JSON(unit_out(unit), headers={"ETag": etag(unit["version"])})


@router.get("/units/{code}/children", response_model=Page[UnitOut])
async def get_children(request: Request, code: Code, paging: Paging, caller: Reader) -> Response:
    """The units directly below, in the order of their codes."""
    caller.check_access(code)
    if not await _store(request).units([code]):
        raise not_found()
    window = paging.window("units", {"parent": code}, (str,))
    rows = await _store(request).children(code, window.after_id, window.limit + 1)
    page, cursor = window.cut(rows, lambda row: (row["_id"],))
    return JSON({"items": [unit_out(row) for row in page], "next": cursor})


@router.post(
    "/units/imports",
    response_model=ImportOut,
    responses=problems(400, 413, 415, 422),
    openapi_extra={
        "requestBody": {"required": True, "content": {"text/csv": {"schema": {"type": "string"}}}}
    },
)
async def import_units(
    request: Request,
    caller: Writer,
    dry_run: Annotated[bool, Query(description="Check and count, write nothing.")] = False,
) -> Response:
    """Load a tree from CSV with the header `code,level,name_en,name_hi,women_target`: all of it or nothing."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "text/csv":
        raise Problem(415, "unsupported-media-type", "Unsupported media type", "send text/csv")
    try:
        text = (await request.body()).decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad_request("not-utf8", "the file is not UTF-8") from error
    outcome = await _units(request).load(text, caller.can_access, Origin.here(), dry_run=dry_run)
    return JSON(
        {
            "dry_run": dry_run,
            "created": len(outcome.created),
            "updated": len(outcome.updated),
            "unchanged": len(outcome.unchanged),
            "changed_codes": (outcome.created + outcome.updated)[:100],
        }
    )


@router.get("/groups", response_model=Page[GroupOut], responses=problems(404))
async def list_groups(
    request: Request,
    paging: Paging,
    caller: Reader,
    unit: Annotated[UnitCode | None, Query(description="The subtree of this unit.")] = None,
    kind: Annotated[GroupKind | None, Query()] = None,
    state: Annotated[GroupState | None, Query()] = None,
) -> Response:
    root = caller.visible_root(unit)
    window = paging.window("groups", {"unit": root, "kind": kind, "state": state}, (str, str))
    after = cast("tuple[str, str] | None", window.after)
    rows = await _store(request).list_groups(root, kind, state, after, window.limit + 1)
    page, cursor = window.cut(rows, lambda row: (row["unit"], row["_id"]))
    return JSON({"items": [group_out(row) for row in page], "next": cursor})


@router.post("/groups/resolve", response_model=ResolveOut)
async def resolve_groups(request: Request, body: ResolveIn, caller: Reader) -> Response:
    """Many groups by their ids; those unknown or outside the caller's units are `missing`."""
    found = await _store(request).groups(body.ids)
    items = [group_out(row) for row in found if caller.can_access(row["unit"])]
    seen = {item["id"] for item in items}
    return JSON({"items": items, "missing": [i for i in body.ids if i not in seen]})


@router.get("/groups/{id}", response_model=GroupOut)
async def get_group(request: Request, group_id: GroupId, caller: Reader) -> Response:
    group = await _visible_group(request, group_id, caller)
    return JSON(group_out(group), headers={"ETag": etag(group["version"])})


@router.patch("/groups/{id}", response_model=GroupOut)
async def patch_group(
    request: Request, group_id: GroupId, body: GroupChange, version: IfMatch, caller: Writer
) -> Response:
    """Change the invite link (null withdraws it), the capacity or the name."""
    changes: dict[str, Any] = body.model_dump(exclude_unset=True)
    group = await _groups(request).change(group_id, changes, version, caller, Origin.here())
    return JSON(group_out(group), headers={"ETag": etag(group["version"])})


@router.get("/groups/{id}/members", response_model=Page[GroupMemberOut])
async def list_group_members(
    request: Request,
    group_id: GroupId,
    paging: Paging,
    caller: Reader,
    state: Annotated[PlacementState | None, Query()] = None,
) -> Response:
    await _visible_group(request, group_id, caller)
    window = paging.window("group-members", {"group": group_id, "state": state}, (str,))
    rows = await _store(request).members_of(group_id, state, window.after_id, window.limit + 1)
    page, cursor = window.cut(rows, lambda row: (row["_id"],))
    items = [{"member_id": row["_id"], "state": row["state"], "since": row["since"]} for row in page]
    return JSON({"items": items, "next": cursor})


@router.get("/members/{id}/groups", response_model=PlacementsOut)
async def get_placements(
    request: Request, member_id: Annotated[Id, Path(alias="id")], caller: Reader
) -> Response:
    """Where a member is placed, and in what state."""
    placement = await _store(request).placement(member_id)
    if placement is None or not caller.can_access(placement["unit"]):
        raise not_found()
    return JSON({"items": [placement_out(placement)]})


async def _visible_group(request: Request, group_id: str, caller: Identity) -> dict[str, Any]:
    group = await _store(request).group(group_id)
    if group is None or not caller.can_access(group["unit"]):
        raise not_found()
    return group


def _row(code: str, body: UnitIn) -> UnitRow:
    if level_of(code) is not body.level:
        raise invalid([FieldError("/level", "does not fit the depth of the code")])
    return UnitRow(code=code, **dict(body))
