"""Routes that read notifications."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import StringConstraints

from services.notifications.core.domain import State
from services.notifications.tracking.schemas import (
    HoldingsOut,
    NotificationOut,
    holdings_out,
    notification_out,
)
from services.notifications.tracking.service import TrackingService
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.pagination import Page, Paging
from services.shared.http.values import Canonical
from services.shared.identity import Identity

Reader = Annotated[Identity, Depends(require("notifications:read"))]
Gatherer = Annotated[Identity, Depends(require("holdings:read"))]
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$"), Canonical]
NotificationId = Annotated[Id, Path(alias="id")]
MemberId = Annotated[Id | None, Query(alias="member", description="Only this member's.")]


def tracking_router(tracking: TrackingService) -> APIRouter:
    router = APIRouter(prefix="/v1", route_class=Route)

    @router.get("/notifications", response_model=Page[NotificationOut], responses=problems(404))
    async def list_notifications(
        paging: Paging, caller: Reader, member: MemberId = None, state: State | None = None
    ) -> Response:
        """Notifications to members of the caller's units, by unit and then from the oldest to the newest."""
        window = paging.window("notifications", {"member": member, "state": state}, (str, str))
        after = cast("tuple[str, str] | None", window.after)
        rows = await tracking.page(caller, member_id=member, state=state, after=after, limit=window.limit + 1)
        page, cursor = window.cut(rows, lambda n: (n.unit, n.id))
        return JSON({"items": [notification_out(n) for n in page], "next": cursor})

    @router.get("/notifications/{id}", response_model=NotificationOut)
    async def get_notification(id_: NotificationId, caller: Reader) -> Response:
        return JSON(notification_out(await tracking.get(caller, id_)))

    @router.get("/members/{id}/holdings", response_model=HoldingsOut)
    async def get_holdings(member_id: Annotated[Id, Path(alias="id")], caller: Gatherer) -> Response:
        """All that this service holds about a member, for the dossier that members hands over."""
        return JSON(holdings_out(member_id, await tracking.held(caller, member_id)))

    return router
