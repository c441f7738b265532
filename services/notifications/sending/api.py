"""The HTTP API of sending: why a message goes or does not, and by which gateways nothing goes now."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import StringConstraints

from services.notifications.core.breakers.breakers import Breakers
from services.notifications.sending.explaining import Explaining, Question
from services.notifications.sending.schemas import BreakersOut, ExplanationOut, explanation_out
from services.shared.contracts.vocabulary import Channel
from services.shared.errors import NotFoundError
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.values import Canonical, Timestamp
from services.shared.identity import Identity

Reader = Annotated[Identity, Depends(require("notifications:read"))]
MemberId = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$"), Canonical, Query(alias="member")
]
Explained = Literal["welcome", "broadcast", "reminder", "service"]
At = Annotated[Timestamp | None, Query(alias="at", description="Judge at this time; now if not given.")]
Certificate = Annotated[
    Annotated[str, StringConstraints(min_length=1, max_length=100)] | None,
    Query(description="Number of the content's certificate, for election matter."),
]


OpsReader = Annotated[Identity, Depends(require("ops:read", everywhere=True))]
OpsWriter = Annotated[Identity, Depends(require("ops:write", everywhere=True))]
BreakerId = Annotated[str, Path(alias="id", pattern=r"^[0-9a-f]{32}$")]
MOST: Final = 500


def explain_router(explaining: Explaining) -> APIRouter:
    router = APIRouter(prefix="/v1", route_class=Route)

    @router.get("/explain", response_model=ExplanationOut, responses=problems(404, 422, 503))
    async def explain(
        caller: Reader,
        member: MemberId,
        purpose: Explained,
        channel: Channel | None = None,
        at: At = None,
        certificate: Certificate = None,
    ) -> Response:
        """Whether a message of this purpose would go to the member, judged by the dispatcher's own rules and
        by what is known now. Nothing is sent."""
        question = Question(member, purpose, channel, at, certificate)
        return JSON(explanation_out(await explaining.explain(caller, question)))

    return router


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
