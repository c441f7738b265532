"""The routes for operators: which breakers are open, and a way to try again at once."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path
from fastapi.responses import Response
from pydantic import BaseModel

from services.notifications.core.breakers.breakers import Breakers
from services.shared.errors import NotFoundError
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.identity import Identity

OpsReader = Annotated[Identity, Depends(require("ops:read", everywhere=True))]
OpsWriter = Annotated[Identity, Depends(require("ops:write", everywhere=True))]
BreakerId = Annotated[str, Path(alias="id", pattern=r"^[0-9a-f]{32}$")]
MOST: Final = 500


class BreakerOut(BaseModel):
    """By `subject` (a template, number or account of the `sender`) nothing goes, because of `code`. A message
    goes as a probe at `until`; `trips` is how often that has come to nothing, the first time included."""

    id: str
    sender: str
    kind: str
    subject: str
    code: str
    trips: int
    opened_at: datetime
    until: datetime


class BreakersOut(BaseModel):
    """The open breakers, at most 500."""

    items: list[BreakerOut]


def breakers_router(breakers: Breakers) -> APIRouter:
    router = APIRouter(prefix="/v1/breakers", route_class=Route)

    @router.get("", response_model=BreakersOut)
    async def list_breakers(caller: OpsReader) -> Response:
        """Templates, numbers and accounts by which nothing goes now, and until when."""
        return JSON({"items": [each._asdict() for each in await breakers.opened(MOST)]})

    @router.delete("/{id}", status_code=204, responses=problems(404))
    async def close_breaker(id_: BreakerId, caller: OpsWriter) -> Response:
        """Close a breaker, as after its cause was mended: its messages go as they come due. If the gateway
        refuses them again, it opens again."""
        if not await breakers.close_one(id_):
            raise NotFoundError
        return Response(status_code=204)

    return router
