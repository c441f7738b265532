"""HTTP schemas of groups and their members."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field

from services.groups.core.domain import Group, GroupState, Placement, PlacementState
from services.groups.core.schemas import Id, UnitName
from services.shared.http.body import Body
from services.shared.text import Name, refuse


def _invite_link(value: str) -> str:
    try:
        parts = urlsplit(value)
        host = parts.hostname
    except ValueError:
        host = None
    if (
        not host
        or parts.scheme != "https"
        or parts.username
        or not value.isascii()
        or not value.isprintable()
    ):
        raise refuse("must be an https link")
    return value


InviteLink = Annotated[str, Field(max_length=300), AfterValidator(_invite_link)]


class NameChange(Body):
    en: Name | None = None
    hi: Name | None = None


class GroupChange(Body):
    """A merge patch: `invite_link` null withdraws the link."""

    invite_link: InviteLink | None = None
    capacity: Annotated[int, Field(ge=1, le=100_000)] = 1
    name: NameChange = NameChange()


class GroupOut(BaseModel):
    """`members` are seats taken, of `capacity`."""

    id: str
    unit: str
    kind: str
    ordinal: int
    name: UnitName
    capacity: int
    members: int
    state: GroupState
    invite_link: str | None
    version: int


class ResolveIn(Body):
    ids: Annotated[list[Id], Field(min_length=1, max_length=500)]


class ResolveOut(BaseModel):
    items: list[GroupOut]
    missing: list[str]


class GroupMemberOut(BaseModel):
    member_id: str
    state: PlacementState
    since: datetime


def group_out(group: Group) -> dict[str, Any]:
    out = {name: getattr(group, name) for name in GroupOut.model_fields if name != "members"}
    return {**out, "members": group.taken}


def group_member_out(placement: Placement) -> dict[str, Any]:
    return {name: getattr(placement, name) for name in GroupMemberOut.model_fields}
