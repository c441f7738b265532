"""The HTTP API of the notifications service: in and out, no logic."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import StringConstraints

from services.notifications.domain import State
from services.notifications.schemas import NotificationOut, notification_out
from services.notifications.store import Search, Store
from services.shared.http.auth import Identity, require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.pagination import Page, Paging
from services.shared.http.problem import not_found

router = APIRouter(prefix="/v1", route_class=Route)

Reader = Annotated[Identity, Depends(require("notifications:read"))]
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]
NotificationId = Annotated[Id, Path(alias="id")]
MemberId = Annotated[Id | None, Query(alias="member", description="Only this member's.")]


def _store(request: Request) -> Store:
    return cast(Store, request.app.state.store)


@router.get("/notifications", response_model=Page[NotificationOut], responses=problems(404))
async def list_notifications(
    request: Request, paging: Paging, caller: Reader, member: MemberId = None, state: State | None = None
) -> Response:
    """Notifications to members of the caller's units, by unit and then from the oldest to the newest."""
    window = paging.window("notifications", {"member": member, "state": state}, (str, str))
    after = cast("tuple[str, str] | None", window.after)
    search = Search(caller.visible_root(None), member, state)
    rows = await _store(request).page(search, after, window.limit + 1)
    page, cursor = window.cut(rows, lambda n: (n.unit, n.id))
    return JSON({"items": [notification_out(n) for n in page], "next": cursor})


@router.get("/notifications/{id}", response_model=NotificationOut)
async def get_notification(request: Request, id_: NotificationId, caller: Reader) -> Response:
    notification = await _store(request).find(id_)
    if notification is None:
        raise not_found()
    caller.check_access(notification.unit)
    return JSON(notification_out(notification))
