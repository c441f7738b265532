"""The HTTP API of resending."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel, Field, Strict, StringConstraints

from services.notifications.resending.service import Resending
from services.shared.contracts.vocabulary import UnitCode
from services.shared.http.auth import require
from services.shared.http.body import JSON, Body, Route, problems
from services.shared.http.values import Canonical
from services.shared.identity import Identity
from services.shared.messaging import Origin
from services.shared.runtime import JobOut, accepted

Writer = Annotated[Identity, Depends(require("notifications:write", "notifications:read"))]
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$"), Canonical]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.-]{0,63}$")]


class ResendIn(Body):
    """All of the unit and below it (of all the caller's units without one) that failed for this reason.
    `dry_run` only counts them."""

    reason: Slug
    unit: UnitCode | None = None
    purpose: Slug | None = None
    dry_run: Annotated[bool, Strict(), Field(description="Only count them.")] = False


class CountOut(BaseModel):
    """How many would be sent again; a million at most are counted."""

    count: int


class QueuedOut(BaseModel):
    id: str
    state: str


def resending_router(resending: Resending) -> APIRouter:
    router = APIRouter(prefix="/v1/notifications", route_class=Route)

    @router.post(
        "/resends",
        response_model=CountOut,
        responses={202: {"model": JobOut}, **problems(404, 409, 422)},
    )
    async def resend_all(body: ResendIn, caller: Writer) -> Response:
        """Send again what has failed: counted (200), or queued again by a job (202)."""
        if body.dry_run:
            return JSON({"count": await resending.count(caller, body.unit, body.reason, body.purpose)})
        return accepted(await resending.all(caller, body.unit, body.reason, body.purpose))

    @router.post("/{id}/resend", response_model=QueuedOut, responses=problems(404, 409))
    async def resend_one(id_: Annotated[Id, Path(alias="id")], caller: Writer) -> Response:
        """Send one again that has failed. It is judged anew, and goes at most once more than it did."""
        queued = await resending.one(caller, id_, Origin.here())
        return JSON({"id": queued.id, "state": queued.state})

    return router
