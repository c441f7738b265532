"""HTTP schemas of groups and their members."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, Strict

from services.groups.core.domain import Group, GroupState, PlacementState, Seat
from services.groups.core.levels import LevelWord
from services.groups.core.schemas import Id, InviteLink, UnitName
from services.shared.contracts.vocabulary import GroupKind, UnitCode
from services.shared.http.body import ABSENT, Body
from services.shared.text import Name


class NameChange(Body):
    """null gives back the name that follows the unit's."""

    en: Name | None = ABSENT
    hi: Name | None = ABSENT


class GroupChange(Body):
    """A merge patch: `invite_link` null withdraws the link."""

    invite_link: InviteLink | None = ABSENT
    capacity: Annotated[int, Strict(), Field(ge=1, le=100_000)] = ABSENT
    name: NameChange = ABSENT


class SplitIn(Body):
    """The seats that the group keeps."""

    capacity: Annotated[int, Strict(), Field(ge=1, le=100_000)]


class OpeningIn(Body):
    """A group of `kind` for each unit of `level` in the subtree of `unit`."""

    unit: UnitCode
    level: LevelWord
    kind: GroupKind = GroupKind.GENERAL


class GroupOut(BaseModel):
    """`members` are seats taken, of `capacity`. `retired` is null while the group takes members: one that is
    `closing` is being split or merged, an `archived` one is out of use. `invite_link` is shown only to
    callers with the scope `invites:read`, for it opens a list of phone numbers; `invite_ready` tells all
    callers whether there is one."""

    id: str
    unit: str
    kind: str
    ordinal: int
    name: UnitName
    capacity: int
    members: int
    state: GroupState
    invite_link: str | None
    invite_ready: bool
    admins: int
    version: int
    retired: Literal["closing", "archived"] | None


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


def group_member_out(member_id: str, seat: Seat) -> dict[str, Any]:
    return {"member_id": member_id, "state": seat.state, "since": seat.since}
