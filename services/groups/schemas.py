"""What the groups service takes and gives over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field, model_validator

from services.groups.domain import GroupState, PlacementState
from services.shared.contracts.vocabulary import UnitCode, UnitLevel, level_of
from services.shared.database import Document
from services.shared.http.body import Body
from services.shared.text import Name, refuse

WomenTarget = Annotated[float | None, Field(ge=0, le=1, description="Share of women aimed at, from 0 to 1.")]


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
Id = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9-]+$")]


class UnitName(Body):
    """A unit's or group's name in both scripts."""

    en: Name
    hi: Name


class UnitIn(Body):
    name: UnitName
    level: UnitLevel
    women_target: WomenTarget = None


class UnitRow(UnitIn):
    """A unit with its code: `PUT /v1/units/{code}` or a row of a CSV."""

    code: UnitCode

    @model_validator(mode="after")
    def _level_fits_code(self) -> Self:
        if level_of(self.code) is not self.level:
            raise refuse(f"a code of this depth is a {level_of(self.code)}")
        return self


class UnitOut(BaseModel):
    code: str
    level: UnitLevel
    parent: str | None
    name: UnitName
    women_target: float | None
    version: int


class ImportOut(BaseModel):
    """What a load did, or with `dry_run` would do, in units; at most 100 codes of each are listed."""

    dry_run: bool
    created: int
    updated: int
    unchanged: int
    changed_codes: list[str]


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


class PlacementOut(BaseModel):
    """Where a member is placed. `group_id` and `ordinal` are null while waiting and after leaving."""

    group_id: str | None
    unit: str
    kind: str
    ordinal: int | None
    state: PlacementState
    since: datetime


class PlacementsOut(BaseModel):
    items: list[PlacementOut]


class GroupMemberOut(BaseModel):
    member_id: str
    state: PlacementState
    since: datetime


def unit_out(row: Document) -> dict[str, Any]:
    return {"code": row["_id"]} | {k: row[k] for k in ("level", "parent", "name", "women_target", "version")}


def group_out(row: Document) -> dict[str, Any]:
    return {
        "id": row["_id"],
        "members": row["taken"],
        **{
            k: row[k]
            for k in ("unit", "kind", "ordinal", "name", "capacity", "state", "invite_link", "version")
        },
    }


def placement_out(row: Document) -> dict[str, Any]:
    return {k: row[k] for k in ("group_id", "unit", "kind", "ordinal", "state", "since")}
