"""Routes that read notifications."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import StringConstraints

from services.notifications.core.domain import State
from services.notifications.tracking.schemas import (
    DetailOut,
    HoldingsOut,
    NotificationOut,
    NotificationSummaryOut,
    count_out,
    detail_out,
    holdings_out,
    notification_out,
)
from services.notifications.tracking.service import TrackingService
from services.shared.contracts.vocabulary import UnitCode
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

Reason = Annotated[
    Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.-]{0,63}$")] | None,
    Query(description="Why it failed, was suppressed, is held or is deferred."),
]


def tracking_router(tracking: TrackingService) -> APIRouter:
    router = APIRouter(prefix="/v1", route_class=Route)

    @router.get("/notifications", response_model=Page[NotificationOut], responses=problems(404))
    async def list_notifications(
        paging: Paging,
        caller: Reader,
        member: MemberId = None,
        state: State | None = None,
        unit: UnitCode | None = None,
        reason: Reason = None,
    ) -> Response:
        """Notifications to members of the unit, by unit and then from the oldest to the newest."""
        filters = {"member": member, "state": state, "unit": unit, "reason": reason}
        window = paging.window("notifications", filters, (str, str))
        after = cast("tuple[str, str] | None", window.after)
        rows = await tracking.page(
            caller,
            unit=unit,
            member_id=member,
            state=state,
            reason=reason,
            after=after,
            limit=window.limit + 1,
        )
        page, cursor = window.cut(rows, lambda n: (n.unit, n.id))
        return JSON({"items": [notification_out(n) for n in page], "next": cursor})

    @router.get("/notifications/summary", response_model=NotificationSummaryOut, responses=problems(404))
    async def summarise(caller: Reader, unit: UnitCode | None = None) -> Response:
        """How many notifications of the unit, and of all below it, wait, failed or were suppressed, and why.
        Those that were sent are not counted."""
        return JSON({"items": [count_out(row) for row in await tracking.summary(caller, unit)]})

    @router.get("/notifications/{id}", response_model=DetailOut)
    async def get_notification(id_: NotificationId, caller: Reader) -> Response:
        return JSON(detail_out(await tracking.get(caller, id_)))

    @router.get("/members/{id}/holdings", response_model=HoldingsOut)
    async def get_holdings(member_id: Annotated[Id, Path(alias="id")], caller: Gatherer) -> Response:
        """All that this service holds about a member, for the dossier that members hands over."""
        return JSON(holdings_out(member_id, await tracking.held(caller, member_id)))

    return router
