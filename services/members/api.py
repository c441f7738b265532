"""The routes of the members service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from services.members.directory import CONTACTS_SCOPE, Directory, Shown
from services.members.membership import Membership
from services.members.registration import Registrar
from services.members.schemas import (
    Ids,
    MemberShown,
    Move,
    Patch,
    Registration,
    Resolved,
    SearchParams,
)
from services.members.store import Record
from services.members.views import contact_view, member_view
from services.shared.http.auth import Identity, require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.etag import IfMatch, etag, expected_version
from services.shared.http.idempotency import Idempotent
from services.shared.http.pagination import Page, Paging
from services.shared.messaging import Origin

router = APIRouter(prefix="/v1/members", tags=["members"], route_class=Route)

Reader = Annotated[Identity, Depends(require("members:read"))]
Writer = Annotated[Identity, Depends(require("members:write"))]
ContactReader = Annotated[Identity, Depends(require(CONTACTS_SCOPE))]
Id = Annotated[str, Path(max_length=64)]


@dataclass(frozen=True, slots=True)
class Members:
    """What the routes work with: `app.state.members`."""

    registrar: Registrar
    membership: Membership
    directory: Directory


def _members(request: Request) -> Members:
    members: Members = request.app.state.members
    return members


@router.post("", status_code=201, response_model=MemberShown, responses=problems(404, 409))
async def register(request: Request, caller: Writer, key: Idempotent, body: Registration) -> Response:
    """Register a person. The answer shows the contact that the caller has just sent."""
    done = await _members(request).registrar.register(caller, body.application(), Origin.here(), key)
    headers = {"Location": f"/v1/members/{done.member.id}", "ETag": etag(done.member.version)}
    if done.replayed:
        headers["Idempotent-Replayed"] = "true"
    return JSON(member_view(done.member, done.contact), 201, headers)


@router.get("", response_model=Page[MemberShown], responses=problems(404))
async def list_members(
    request: Request, caller: Reader, paging: Paging, params: Annotated[SearchParams, Query()]
) -> Response:
    """Members of the caller's subtree, oldest first."""
    directory = _members(request).directory
    window = paging.window("members", params.model_dump(), (str,))
    records = await directory.page(caller, params.search(), window.after_id, window.limit + 1)
    page, cursor = window.cut(records, lambda record: (record.member.id,))
    shown = await directory.show(caller, page, "list")
    return JSON({"items": [member_view(each.member, each.contact) for each in shown], "next": cursor})


@router.post("/resolve", response_model=Resolved)
async def resolve(request: Request, caller: ContactReader, body: Ids) -> Response:
    """Names and addresses of up to 500 members, for services that write to them. Every call is recorded."""
    pairs, missing = await _members(request).directory.resolve(caller, body.ids)
    return JSON({"items": [contact_view(*pair) for pair in pairs], "missing": missing})


@router.get("/{id}", response_model=MemberShown)
async def get_member(request: Request, caller: Reader, id: Id) -> Response:
    """One member, also one who has left."""
    return _one(await _members(request).directory.get(caller, id))


@router.patch("/{id}", response_model=MemberShown, responses=problems(409))
async def update_member(request: Request, caller: Writer, id: Id, version: IfMatch, body: Patch) -> Response:
    """Change what is named in the body; null removes what is optional."""
    changed = await _members(request).membership.update(caller, id, version, body.changes(), Origin.here())
    return await _changed(request, caller, changed)


@router.post("/{id}/move", response_model=MemberShown, responses=problems(400, 409, 412))
async def move_member(
    request: Request,
    caller: Writer,
    id: Id,
    body: Move,
    if_match: Annotated[str | None, Header(alias="If-Match", description="Checked when sent.")] = None,
) -> Response:
    """Move a member to another unit."""
    version = None if if_match is None else expected_version(if_match)
    moved = await _members(request).membership.move(caller, id, version, body.unit, Origin.here())
    return await _changed(request, caller, moved)


@router.delete("/{id}", status_code=204, responses=problems(409))
async def leave(request: Request, caller: Writer, id: Id) -> Response:
    """The member leaves; the phone number is free again. Repeating it changes nothing."""
    await _members(request).membership.leave(caller, id, Origin.here())
    return Response(status_code=204)


async def _changed(request: Request, caller: Identity, record: Record) -> Response:
    [shown] = await _members(request).directory.show(caller, [record], "change")
    return _one(shown)


def _one(shown: Shown) -> Response:
    return JSON(member_view(shown.member, shown.contact), headers={"ETag": etag(shown.member.version)})
