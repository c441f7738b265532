"""Routes about the women connected."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from services.analytics.core.calendar import Interval
from services.analytics.inclusion.queries import InclusionQueries
from services.analytics.inclusion.schemas import FunnelSeries, Inclusion, NextUnits
from services.shared.contracts.vocabulary import UnitCode
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.values import Day, Digits
from services.shared.identity import Identity

Reader = Annotated[Identity, Depends(require("analytics:read"))]
Unit = Annotated[
    UnitCode | None, Query(description="The unit and all below it; without one, all that the caller may see.")
]
On = Annotated[Day | None, Query(description="At the end of this day in India; by default today, so far.")]
From = Annotated[Day | None, Query(alias="from", description="First day; by default 30 days end at `to`.")]
To = Annotated[Day | None, Query(alias="to", description="Last day, included; by default today in India.")]
Limit = Annotated[int, Query(ge=1, le=100), Digits]


def inclusion_router(queries: InclusionQueries) -> APIRouter:
    router = APIRouter(
        prefix="/v1/inclusion", tags=["inclusion"], route_class=Route, responses=problems(404, 503)
    )

    @router.get("", response_model=Inclusion)
    async def get_inclusion(caller: Reader, unit: Unit = None, on: On = None) -> JSON:
        """The women of a unit and all below it, from registered to active, on any day."""
        return JSON((await queries.inclusion(caller, unit, on)).model_dump())

    @router.get("/series", response_model=FunnelSeries)
    async def get_series(
        caller: Reader,
        *,
        unit: Unit = None,
        first: From = None,
        last: To = None,
        step: Interval = Interval.DAY,
    ) -> JSON:
        """The same over time, at the end of each day or week, at most 731 days."""
        series = await queries.series(caller, unit, first, last, step)
        return JSON(series.model_dump(by_alias=True))

    @router.get("/next", response_model=NextUnits)
    async def get_next(caller: Reader, unit: Unit = None, limit: Limit = 20) -> JSON:
        """The units where the next effort brings on the most women, and why, in English and Hindi."""
        return JSON((await queries.next(caller, unit, limit)).model_dump())

    return router
