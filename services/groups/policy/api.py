"""The HTTP API of the placement policy."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response

from services.groups.core.schemas import Id
from services.groups.policy.schemas import (
    DifferenceOut,
    PolicyIn,
    PolicyOut,
    PreviewOut,
    difference_out,
    policy_of,
    policy_out,
    preview_out,
)
from services.groups.policy.service import PolicyService
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.etag import IfMatch, etag
from services.shared.http.pagination import Page, Paging
from services.shared.identity import Identity
from services.shared.messaging import Origin
from services.shared.runtime import JobOut, accepted

Reader = Annotated[Identity, Depends(require("groups:read"))]
Watcher = Annotated[Identity, Depends(require("groups:read", everywhere=True))]
Writer = Annotated[Identity, Depends(require("groups:write", "groups:read", everywhere=True))]
PreviewId = Annotated[Id, Path(alias="id")]
PATH = "/v1/placement-policy"


def policy_router(policies: PolicyService) -> APIRouter:
    router = APIRouter(prefix=PATH, route_class=Route)

    @router.get("", response_model=PolicyOut)
    async def get_policy(caller: Reader) -> Response:
        """The policy in force."""
        policy, job_id = await policies.current()
        return JSON(policy_out(policy, job_id), headers={"ETag": etag(policy.version)})

    @router.put("", response_model=PolicyOut, responses=problems(404, 409, 422))
    async def put_policy(body: PolicyIn, version: IfMatch, caller: Writer) -> Response:
        """Put a policy in force. From now on events are answered by it; the job `job_id` re-places everybody
        who was placed by an earlier one. The same policy again changes nothing."""
        policy, job = await policies.put(caller, policy_of(body), version, Origin.here())
        headers = {"ETag": etag(policy.version)} | ({"Location": f"/v1/jobs/{job.id}"} if job else {})
        return JSON(policy_out(policy, job.id if job else None), 202 if job else 200, headers)

    @router.post(
        "/preview",
        response_model=PreviewOut,
        responses={202: {"model": PreviewOut}, **problems(404, 422)},
    )
    async def preview_policy(body: PolicyIn, caller: Writer) -> Response:
        """Compare the policy with all placements: the changes are exact, if nothing happens until then. Few
        members are compared at once (200), many by a job (202)."""
        preview, job = await policies.preview(caller, policy_of(body))
        headers = {"Location": f"/v1/jobs/{job.id}"} if job else {}
        return JSON(preview_out(preview), 202 if job else 200, headers)

    @router.get("/previews/{id}", response_model=PreviewOut)
    async def get_preview(preview_id: PreviewId, caller: Watcher) -> Response:
        return JSON(preview_out(await policies.previewed(caller, preview_id)))

    @router.get("/previews/{id}/changes", response_model=Page[DifferenceOut])
    async def list_differences(preview_id: PreviewId, paging: Paging, caller: Watcher) -> Response:
        """The changes one by one, groups first. A preview is kept for a week."""
        window = paging.window("policy-changes", {"preview": preview_id}, (str,))
        after = window.after_id or ""
        found = await policies.differences(caller, preview_id, after, window.limit + 1)
        page, cursor = window.cut(found, lambda difference: (difference.key,))
        return JSON({"items": [difference_out(each) for each in page], "next": cursor})

    @router.post("/apply", response_model=JobOut, status_code=202, responses=problems(404, 409))
    async def apply_policy(caller: Writer) -> Response:
        """Apply the policy in force to whoever does not follow it: after a job was cancelled, or an audit has
        found drift."""
        return accepted(await policies.apply_again(caller))

    @router.post("/audits", response_model=JobOut, status_code=202, responses=problems(404))
    async def audit_placements(caller: Writer) -> Response:
        """Compare all placements with the policy in force. The job's `result` counts the differences by cause
        and lists the first hundred."""
        return accepted(await policies.audit(caller))

    return router
