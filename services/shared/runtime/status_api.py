"""`GET /v1/ops/status`: whether events flow through this process (scope `ops:read`).

It is apart from `/readyz`, which says whether the API can answer: a process whose consumer stands still must
stay in its load balancer, because operators reach the dead letters and the fuse through it.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field

from services.shared.http.auth import require
from services.shared.http.body import JSON, Route
from services.shared.identity import Identity
from services.shared.messaging import BatchConsumer, Filter
from services.shared.runtime.runtime import Runtime

Reader = Annotated[Identity, Depends(require("ops:read", everywhere=True))]
OLD_SECONDS = 60.0
"""Age of an unpublished event from which the outbox counts as standing still."""


MAX_COUNTED = 10_000


class StatusOut(BaseModel):
    """Whether events flow; if not, `reasons` says why, by part: `outbox`, `relay`, `consumer`.

    `dead_letters` counts those that wait for an operator; it is null in a service that consumes nothing.
    """

    flowing: bool
    reasons: dict[str, str]
    outbox_rows: int
    outbox_oldest_seconds: Annotated[
        float, Field(description="Age of the oldest unpublished event; 0 if none.")
    ]
    dead_letters: int | None


def status_router(runtime: Runtime, consumer: BatchConsumer | None) -> APIRouter:
    router = APIRouter(prefix="/v1/ops", route_class=Route)

    @router.get("/status", response_model=StatusOut)
    async def get_status(_: Reader) -> Response:
        """Whether events flow through this process, and why not."""
        rows, oldest = await runtime.outbox.waiting()
        reasons = {}
        if oldest > OLD_SECONDS:
            reasons["outbox"] = f"the oldest event has waited for {oldest:.0f} s"
        if aside := await runtime.outbox.rows.count_documents(
            {"stuck": {"$exists": True}}, limit=MAX_COUNTED
        ):
            reasons["relay"] = f"{aside} events are set aside: the broker refuses them"
        if consumer and (why := consumer.stopped_by()):
            reasons["consumer"] = why
        letters = await runtime.dead_letters.count(Filter(state="dead")) if consumer else None
        return JSON(
            {
                "flowing": not reasons,
                "reasons": reasons,
                "outbox_rows": rows,
                "outbox_oldest_seconds": oldest,
                "dead_letters": letters,
            }
        )

    return router
