"""HTTP in and out."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from services.analytics.calendar import Step
from services.analytics.domain import EVERYWHERE
from services.analytics.figures import Figures
from services.analytics.schemas import CoveragePage, Metric, Overview, Timeseries
from services.shared.contracts.vocabulary import UnitCode, UnitLevel
from services.shared.http.auth import Identity, require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.pagination import Paging

router = APIRouter(prefix="/v1", tags=["analytics"], route_class=Route, responses=problems(404))

Reader = Annotated[Identity, Depends(require("analytics:read"))]
Unit = Annotated[
    UnitCode | None, Query(description="The unit and all below it; without one, all that the caller may see.")
]
From = Annotated[date | None, Query(alias="from", description="First day; by default 30 days end at `to`.")]
To = Annotated[date | None, Query(alias="to", description="Last day, included; by default today in India.")]


def _figures(request: Request) -> Figures:
    figures: Figures = request.app.state.figures
    return figures


def _seen(caller: Identity, unit: str | None) -> str:
    """The unit asked for, or all that the caller may see. Raises: the 404 problem for a unit outside."""
    return caller.visible_root(unit) or EVERYWHERE


@router.get("/overview", response_model=Overview)
async def get_overview(request: Request, caller: Reader, unit: Unit = None) -> JSON:
    """Members, groups and notifications of a unit and all below it, now."""
    overview = await _figures(request).overview(_seen(caller, unit))
    return JSON(overview.model_dump())


@router.get("/timeseries", response_model=Timeseries)
async def get_timeseries(
    request: Request,
    caller: Reader,
    *,
    metric: Metric,
    unit: Unit = None,
    first: From = None,
    last: To = None,
    step: Step = Step.DAY,
) -> JSON:
    """What happened in a unit and all below it, by day or by week, at most 731 days."""
    series = await _figures(request).timeseries(_seen(caller, unit), metric, first, last, step)
    return JSON(series.model_dump(by_alias=True))


@router.get("/coverage", response_model=CoveragePage)
async def get_coverage(
    request: Request, caller: Reader, paging: Paging, level: UnitLevel, unit: Unit = None
) -> JSON:
    """Each unit of a level below `unit`: its groups, seats, members and women, also where there are none yet."""
    root = _seen(caller, unit)
    window = paging.window("coverage", {"unit": root, "level": level}, (str,))
    figures = _figures(request)
    rows = await figures.coverage(root, level, window.after_id or "", window.limit + 1)
    items, cursor = window.cut(rows, lambda row: (row.unit,))
    summary = None if window.after else await figures.summary(root, level)
    page = CoveragePage(items=list(items), next=cursor, unit=root, level=level, summary=summary)
    return JSON(page.model_dump())
