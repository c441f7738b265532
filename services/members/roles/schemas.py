"""Requests and answers about roles and officers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from services.members.core.schemas import Moment, RequestBody
from services.members.core.terms import RoleRecord, Term
from services.members.roles.service import Officer
from services.shared.database import as_dict

_record = as_dict(RoleRecord)


class TermIn(RequestBody):
    """The time for which a role is held: `from` is now (or stays as it was) unless given, and without
    `until` it has no end."""

    since: Annotated[Moment | None, Field(alias="from")] = None
    until: Moment | None = None


class TermShown(BaseModel):
    """A role in a unit, in effect from `from` and before `until`."""

    role: str
    unit: str
    since: datetime = Field(alias="from")
    until: datetime | None


class RoleChangeShown(TermShown):
    """`change` is one of given, changed, began, taken, ended; `actor` is null when time did it."""

    change: str
    actor: str | None
    at: datetime


class RolesShown(BaseModel):
    """`items` are terms that have not ended, also those that begin later; `history` is every change."""

    items: list[TermShown]
    history: list[RoleChangeShown]


class OfficerShown(TermShown):
    member_id: str
    name: str


def term_view(term: Term) -> dict[str, Any]:
    return {"role": term.role, "unit": term.unit, "from": term.since, "until": term.until}


def record_view(record: RoleRecord) -> dict[str, Any]:
    view = _record(record)
    del view["member_id"]
    return {"from": view.pop("since"), **view}


def officer_view(officer: Officer) -> dict[str, Any]:
    return {"member_id": officer.term.member_id, "name": officer.name, **term_view(officer.term)}
