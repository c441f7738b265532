"""HTTP schemas of group admins."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from services.groups.admins.domain import Lack, TaskKind, problems
from services.groups.admins.service import Run
from services.groups.admins.store import Task
from services.groups.core.domain import Group
from services.groups.core.schemas import Id
from services.shared.http.body import ABSENT, Body


class AdminOut(BaseModel):
    member_id: str
    at: datetime


class CandidateOut(BaseModel):
    """Somebody who could run the group: `role` and `unit` say why."""

    member_id: str
    role: str
    unit: str


class AdminsOut(BaseModel):
    """Every group should have two at least; `suggested` are those to ask, the nearest first."""

    items: list[AdminOut]
    suggested: list[CandidateOut]


class GapOut(BaseModel):
    group_id: str
    unit: str
    kind: str
    ordinal: int
    members: int
    admins: int
    problems: list[Lack]


class TaskOut(BaseModel):
    """`member_id` is whom it is about; `successor` who is suggested for an admin who left."""

    id: str
    kind: TaskKind
    member_id: str
    successor: str | None
    created_at: datetime


class TasksOut(BaseModel):
    items: list[TaskOut]


class PageIn(Body):
    """`member_id` is the admin for whom the link is: it ends when they leave. Without it, it is for whoever
    has it."""

    member_id: Id | None = ABSENT


class PageOut(BaseModel):
    """The link is shown this once, and works for whoever has it."""

    url: str
    expires_at: datetime


def admins_out(run: Run) -> dict[str, Any]:
    return {
        "items": [{"member_id": each.member_id, "at": each.at} for each in run.admins],
        "suggested": [each._asdict() for each in run.suggested],
    }


def gap_out(group: Group) -> dict[str, Any]:
    return {
        "group_id": group.id,
        "unit": group.unit,
        "kind": group.kind,
        "ordinal": group.ordinal,
        "members": group.taken,
        "admins": group.admins,
        "problems": problems(linked=group.invite_ready, admins=group.admins),
    }


def task_out(task: Task) -> dict[str, Any]:
    return {name: getattr(task, name) for name in TaskOut.model_fields}
