"""The routes of incidents."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from services.members.core.api import Id
from services.members.incidents.schemas import (
    AffectedIn,
    AffectedShown,
    DraftsShown,
    IncidentChange,
    IncidentIn,
    IncidentListed,
    IncidentShown,
    draft_view,
    incident_view,
    listed_view,
)
from services.members.incidents.service import Incidents, Shown
from services.shared.contracts.vocabulary import UnitCode
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.etag import IfMatch, etag
from services.shared.http.idempotency import Idempotent
from services.shared.http.pagination import Page, Paging
from services.shared.identity import Identity

Reader = Annotated[Identity, Depends(require("incidents:read"))]
Changer = Annotated[Identity, Depends(require("incidents:write", "incidents:read"))]
PATH = "/v1/incidents"


def incidents_router(incidents: Incidents, now: Callable[[], datetime]) -> APIRouter:
    router = APIRouter(prefix=PATH, tags=["incidents"], route_class=Route)

    def answer(shown: Shown, status: int = 200, location: str | None = None) -> Response:
        headers = {"ETag": etag(shown.incident.version)} | ({"Location": location} if location else {})
        return JSON(incident_view(shown, now()), status, headers)

    @router.post("", status_code=201, response_model=IncidentShown, responses=problems(404))
    async def record_incident(caller: Changer, key: Idempotent, body: IncidentIn) -> Response:
        """Record an incident; its clocks (6 and 72 hours) run from its detection. Its words are sealed."""
        shown = await incidents.record(caller, body.unit, body.detected_at, body.words(), key)
        return answer(shown, 201, f"{PATH}/{shown.incident.id}")

    @router.get("", response_model=Page[IncidentListed], responses=problems(404))
    async def list_incidents(
        caller: Reader,
        paging: Paging,
        unit: Annotated[UnitCode | None, Query(description="The unit and all below it.")] = None,
    ) -> Response:
        """Incidents without their words, the newest first."""
        window = paging.window("incidents", {"unit": unit}, (str,))
        rows = await incidents.page(caller, unit, window.after_id, window.limit + 1)
        page, cursor = window.cut(rows, lambda each: (each.id,))
        return JSON({"items": [listed_view(each, now()) for each in page], "next": cursor})

    @router.get("/{id}", response_model=IncidentShown)
    async def get_incident(caller: Reader, id: Id) -> Response:
        """An incident with its words and what is still to be done by when."""
        return answer(await incidents.get(caller, id))

    @router.patch("/{id}", response_model=IncidentShown)
    async def change_incident(caller: Changer, id: Id, body: IncidentChange, version: IfMatch) -> Response:
        """Change its words, and mark what was done when."""
        return answer(await incidents.change(caller, id, version, body.words(), body.marks()))

    @router.put("/{id}/affected", status_code=202, response_model=IncidentListed, responses=problems(409))
    async def take_affected(caller: Changer, id: Id, body: AffectedIn) -> Response:
        """Have a job make the list of the affected, once. It is frozen as of now."""
        incident = await incidents.take_affected(
            caller,
            id,
            by=body.by,
            subject=body.subject,
            unit=body.unit,
            since=body.since,
            until=body.until,
        )
        assert incident.affected is not None
        headers = {"ETag": etag(incident.version), "Location": f"/v1/jobs/{incident.affected.job}"}
        return JSON(listed_view(incident, now()), 202, headers)

    @router.get("/{id}/affected", response_model=Page[AffectedShown])
    async def list_affected(caller: Reader, id: Id, paging: Paging) -> Response:
        """The affected members by id; the list is whole once the incident shows its `count`."""
        window = paging.window("incident-affected", {"id": id}, (str,))
        rows = await incidents.affected(caller, id, window.after_id, window.limit + 1)
        page, cursor = window.cut(rows, lambda each: (each,))
        return JSON({"items": [{"member_id": each} for each in page], "next": cursor})

    @router.get("/{id}/notices", response_model=DraftsShown)
    async def draft_notices(caller: Reader, id: Id) -> Response:
        """Drafts of the notices to CERT-In, the Board and the affected, from the record. Nothing is sent."""
        return JSON({"items": [draft_view(each) for each in await incidents.drafts(caller, id)]})

    return router
