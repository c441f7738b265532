"""Routes about projections, for operators."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Response

from services.analytics.projections.schemas import (
    BuildOut,
    DriftIn,
    ProjectionOut,
    ProjectionsOut,
    RebuildIn,
)
from services.analytics.projections.service import Projections, ProjectionState
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.identity import Identity
from services.shared.runtime import JobOut, accepted

Watcher = Annotated[Identity, Depends(require("ops:read", everywhere=True))]
Operator = Annotated[Identity, Depends(require("ops:write", everywhere=True))]


def projections_router(projections: Projections) -> APIRouter:
    router = APIRouter(prefix="/v1/projections", tags=["projections"], route_class=Route)

    @router.get("", response_model=ProjectionsOut)
    async def list_projections(caller: Watcher) -> JSON:
        """Each projection: the live version, and how far a build is."""
        items = [_out(state) for state in await projections.states()]
        return JSON(ProjectionsOut(items=items).model_dump())

    @router.post("/rebuild", status_code=202, response_model=JobOut, responses=problems(409))
    async def rebuild_projections(body: RebuildIn, caller: Operator) -> Response:
        """Build these projections anew from the log, beside the live ones, and put them in their place once
        they have caught up."""
        return accepted(await projections.rebuild(caller, body.names, accept_cut_off=body.accept_cut_off))

    @router.post("/drift", status_code=202, response_model=JobOut, responses=problems(409))
    async def look_for_drift(body: DriftIn, caller: Operator) -> Response:
        """Replay the log into a scratch place and compare it with what is live, key by key."""
        return accepted(await projections.look_for_drift(caller, body.names or projections.names))

    @router.get("/drift", response_model=JobOut, responses=problems(404))
    async def get_drift(caller: Watcher) -> Response:
        """The newest comparison. Its `result` lists the first 100 differences and counts all."""
        return JSON(JobOut.of(await projections.drift()))

    return router


def _out(state: ProjectionState) -> ProjectionOut:
    job, build = state.building, None
    word: Literal["live", "building", "missing"] = "missing" if state.version is None else "live"
    if job is not None:
        phase = (job.cursor or {}).get("phase", "waiting")
        percent = 100.0 * min(1.0, job.done / job.total) if job.total else 100.0 if job.total == 0 else 0.0
        version = job.input["places"][state.name]["version"]
        build = BuildOut(job=job.id, version=version, phase=phase, percent=round(percent, 1))
        word = "live" if phase == "overlap" else "building"
    return ProjectionOut(
        name=state.name,
        state=word,
        version=state.version,
        wanted=state.wanted,
        since=state.since,
        build=build,
    )
