"""The routes of grievances."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from services.members.core.api import Id
from services.members.core.schemas import MemberId
from services.members.grievances.domain import GrievanceState
from services.members.grievances.schemas import (
    GrievanceChange,
    GrievanceIn,
    GrievanceListed,
    GrievanceShown,
    grievance_view,
    listed_view,
)
from services.members.grievances.service import Grievances, Shown
from services.shared.contracts.vocabulary import UnitCode
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.etag import IfMatch, etag
from services.shared.http.idempotency import Idempotent
from services.shared.http.pagination import Page, Paging
from services.shared.identity import Identity

Reader = Annotated[Identity, Depends(require("grievances:read"))]
Changer = Annotated[Identity, Depends(require("grievances:write", "grievances:read"))]
"""The answers to POST and PATCH show the words."""
PATH = "/v1/grievances"


def grievances_router(grievances: Grievances) -> APIRouter:
    router = APIRouter(prefix=PATH, tags=["grievances"], route_class=Route)

    @router.post("", status_code=201, response_model=GrievanceShown, responses=problems(404))
    async def file_grievance(caller: Changer, key: Idempotent, body: GrievanceIn) -> Response:
        """File a grievance. Its words are sealed."""
        found = await grievances.file(
            caller,
            member_id=body.member_id,
            unit=body.unit or "",
            kind=body.kind,
            text=body.text,
            request=key,
        )
        return _answer(found, 201, {"Location": f"{PATH}/{found.grievance.id}"})

    @router.get("", response_model=Page[GrievanceListed], responses=problems(404))
    async def list_grievances(
        caller: Reader,
        paging: Paging,
        unit: Annotated[UnitCode | None, Query(description="The unit and all below it.")] = None,
        state: GrievanceState | None = None,
        member: Annotated[MemberId | None, Query(description="Whose they are.")] = None,
    ) -> Response:
        """Grievances without their words, the oldest first."""
        window = paging.window("grievances", {"unit": unit, "state": state, "member": member}, (str,))
        rows = await grievances.page(
            caller, unit=unit, state=state, member_id=member, after=window.after_id, limit=window.limit + 1
        )
        page, cursor = window.cut(rows, lambda each: (each.id,))
        return JSON({"items": [listed_view(each) for each in page], "next": cursor})

    @router.get("/{id}", response_model=GrievanceShown)
    async def get_grievance(caller: Reader, id: Id) -> Response:
        """A grievance with its words. That they were read is recorded."""
        return _answer(await grievances.get(caller, id))

    @router.patch("/{id}", response_model=GrievanceShown, responses=problems(409))
    async def change_grievance(caller: Changer, id: Id, body: GrievanceChange, version: IfMatch) -> Response:
        """Answer it, or close it once it has an answer (409)."""
        close = "state" in body.model_fields_set
        return _answer(await grievances.change(caller, id, version, answer=body.answer, close=close))

    return router


def _answer(shown: Shown, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    etags = {"ETag": etag(shown.grievance.version)}
    return JSON(grievance_view(shown), status, etags | (headers or {}))
