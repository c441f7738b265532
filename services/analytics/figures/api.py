"""Routes of the figures."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from services.analytics.core.calendar import Interval
from services.analytics.core.counting import EVERYWHERE
from services.analytics.figures.queries import FigureQueries
from services.analytics.figures.schemas import CoveragePage, Holdings, Metric, Overview, Timeseries
from services.shared.contracts.vocabulary import UnitCode
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.pagination import Paging
from services.shared.http.values import Canonical, Day
from services.shared.identity import Identity

Reader = Annotated[Identity, Depends(require("analytics:read"))]
Gatherer = Annotated[Identity, Depends(require("holdings:read"))]
MemberId = Annotated[str, Path(alias="id", pattern="^[A-Za-z0-9-]{1,64}$"), Canonical]
Unit = Annotated[
    UnitCode | None, Query(description="The unit and all below it; without one, all that the caller may see.")
]
Level = Annotated[str, Query(pattern="^[a-z][a-z0-9_]{0,31}$", description="A level of the tree.")]
From = Annotated[Day | None, Query(alias="from", description="First day; by default 30 days end at `to`.")]
On = Annotated[Day | None, Query(description="At the end of this day in India; by default today, so far.")]
To = Annotated[Day | None, Query(alias="to", description="Last day, included; by default today in India.")]


def figures_router(queries: FigureQueries) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["analytics"], route_class=Route, responses=problems(404))

    @router.get("/overview", response_model=Overview)
    async def get_overview(caller: Reader, unit: Unit = None) -> JSON:
        """Members, groups and notifications of a unit and all below it, now."""
        return JSON((await queries.overview(caller, unit)).model_dump())

    @router.get("/timeseries", response_model=Timeseries)
    async def get_timeseries(
        caller: Reader,
        *,
        metric: Metric,
        unit: Unit = None,
        first: From = None,
        last: To = None,
        step: Interval = Interval.DAY,
    ) -> JSON:
        """Events counted in a unit and all below it, by day or by week, at most 731 days."""
        series = await queries.timeseries(caller, unit, metric, first, last, step)
        return JSON(series.model_dump(by_alias=True))

    @router.get("/coverage", response_model=CoveragePage)
    async def get_coverage(
        caller: Reader, paging: Paging, level: Level, unit: Unit = None, on: On = None
    ) -> JSON:
        """Each unit of a level below `unit`: its groups, who runs them, seats, members and women, on any day,
        even where there are none yet."""
        root = caller.accessible_root(unit) or EVERYWHERE
        window = paging.window("coverage", {"unit": root, "level": level, "on": on}, (str,))
        rows = await queries.coverage(caller, unit, level, on, window.after_id, window.limit + 1)
        items, cursor = window.cut(rows, lambda row: (row.unit,))
        summary = None if window.after else await queries.summary(caller, unit, level, on)
        page = CoveragePage(items=list(items), next=cursor, unit=root, level=level, summary=summary)
        return JSON(page.model_dump())

    @router.get("/members/{id}/holdings", response_model=Holdings)
    async def get_holdings(caller: Gatherer, member_id: MemberId) -> JSON:
        """All that this service holds about a member, for the dossier that members hands over."""
        return JSON((await queries.held(caller, member_id)).model_dump())

    return router
