"""The HTTP API of the policies of sending."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from services.notifications.policies.schemas import (
    ChangeOut,
    PoliciesIn,
    PoliciesOut,
    PutOut,
    change_out,
    policies_of,
    policies_out,
)
from services.notifications.policies.service import PoliciesService
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.etag import IfMatch, etag
from services.shared.http.pagination import Page, Paging
from services.shared.identity import Identity

Reader = Annotated[Identity, Depends(require("notifications:read"))]
Watcher = Annotated[Identity, Depends(require("notifications:read", everywhere=True))]
Writer = Annotated[Identity, Depends(require("notifications:write", "notifications:read", everywhere=True))]


def policies_router(policies: PoliciesService) -> APIRouter:
    router = APIRouter(prefix="/v1/policies", route_class=Route)

    @router.get("", response_model=PoliciesOut)
    async def get_policies(caller: Reader) -> Response:
        """The policies of sending that are in force."""
        found = await policies.current()
        return JSON(policies_out(found), headers={"ETag": etag(found.version)})

    @router.put("", response_model=PutOut, responses=problems(404, 422))
    async def put_policies(body: PoliciesIn, version: IfMatch, caller: Writer) -> Response:
        """Put policies in force. Messages that wait because of the ones before are judged again at once; what
        is sent from now on is judged by these."""
        found, judged_again = await policies.put(caller, policies_of(body), version)
        shown = policies_out(found) | {"judged_again": judged_again}
        return JSON(shown, headers={"ETag": etag(found.version)})

    @router.get("/versions", response_model=Page[ChangeOut], responses=problems(404))
    async def list_versions(paging: Paging, caller: Watcher) -> Response:
        """By whom the policies were changed, from the newest change."""
        window = paging.window("policy-versions", {}, (int,))
        before = window.after[0] if window.after else None
        rows = await policies.versions(caller, before, window.limit + 1)
        page, cursor = window.cut(rows, lambda row: (row["_id"],))
        return JSON({"items": [change_out(row) for row in page], "next": cursor})

    return router
