"""The jobs API of every service: list jobs, read one, pause, resume and cancel it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel

from services.shared.errors import NotFoundError
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.pagination import Page, Paging
from services.shared.http.values import Canonical
from services.shared.identity import Identity
from services.shared.jobs import Job, Jobs, State

JobId = Annotated[str, Path(alias="id", max_length=100), Canonical]
KindQuery = Annotated[str | None, Query(max_length=100)]
StateQuery = Annotated[State | None, Query()]


class ProgressOut(BaseModel):
    """Units of work that are done, out of how many; `total` is null while that is not known."""

    done: int
    total: int | None


class JobOut(BaseModel):
    """Long work and how far it is. `requested_by` is a token's subject, `unit` the subtree it could touch.

    `counts` are by the kind's own words. `result` is set once the job succeeded, `reason` and `detail` once
    it failed.
    """

    id: str
    kind: str
    state: State
    unit: str
    progress: ProgressOut
    counts: dict[str, int]
    result: Any
    reason: str | None
    detail: str | None
    requested_by: str
    due_at: datetime
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, job: Job) -> dict[str, Any]:
        """The job as it is shown."""
        return _out(job)


def accepted(job: Job) -> Response:
    """202 for work that goes on as `job`: `Location` tells where to follow it."""
    return JSON(_out(job), 202, {"Location": f"/v1/jobs/{job.id}"})


def jobs_router(jobs: Jobs, *, read_scope: str, write_scope: str) -> APIRouter:
    """Routes of one service's jobs. A caller sees the jobs of units it has access to; any other is a 404."""
    router = APIRouter(prefix="/v1/jobs", route_class=Route)
    reader, writer = Depends(require(read_scope)), Depends(require(write_scope, read_scope))

    async def seen(caller: Identity, job_id: str) -> Job:
        job = await jobs.get(job_id)
        if job is None or not caller.can_access(job.unit):
            raise NotFoundError
        return job

    async def changed(
        caller: Identity, job_id: str, change: Callable[[str], Awaitable[Job | None]]
    ) -> Response:
        await seen(caller, job_id)
        job = await change(job_id)
        if job is None:
            raise NotFoundError
        return JSON(_out(job))

    @router.get("", response_model=Page[JobOut])
    async def list_jobs(
        paging: Paging, kind: KindQuery = None, state: StateQuery = None, caller: Identity = reader
    ) -> Response:
        """The newest first."""
        root = caller.accessible_root(None)
        window = paging.window("jobs", {"kind": kind, "state": state, "root": root}, (str,))
        rows = await jobs.page(
            kind=kind, state=state, root=root, after=window.after_id, limit=window.limit + 1
        )
        page, cursor = window.cut(rows, lambda job: (job.id,))
        return JSON({"items": [_out(job) for job in page], "next": cursor})

    @router.get("/{id}", response_model=JobOut)
    async def get_job(job_id: JobId, caller: Identity = reader) -> Response:
        return JSON(_out(await seen(caller, job_id)))

    @router.post("/{id}/pause", response_model=JobOut, responses=problems(409))
    async def pause_job(job_id: JobId, caller: Identity = writer) -> Response:
        """Let it rest until it is resumed; repeating it changes nothing. 409 when it has ended."""
        return await changed(caller, job_id, jobs.pause)

    @router.post("/{id}/resume", response_model=JobOut, responses=problems(409))
    async def resume_job(job_id: JobId, caller: Identity = writer) -> Response:
        """Let it go on where it was; one that is not paused stays as it is. 409 when it has ended."""
        return await changed(caller, job_id, jobs.resume)

    @router.post("/{id}/cancel", response_model=JobOut, responses=problems(409))
    async def cancel_job(job_id: JobId, caller: Identity = writer) -> Response:
        """End it where it is; what it has done stays done. 409 when it has ended."""
        return await changed(caller, job_id, jobs.cancel)

    return router


def _out(job: Job) -> dict[str, Any]:
    derived = {"progress", "requested_by"}
    out = {name: getattr(job, name) for name in JobOut.model_fields if name not in derived}
    progress = ProgressOut(done=job.done, total=job.total)
    return out | {"progress": progress.model_dump(), "requested_by": job.requested_by.subject}
