"""The routes that merge two members, and part them again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from services.members.core.api import Changer, Id, members_router
from services.members.core.reading import CONTACTS_SCOPE
from services.members.merges.schemas import MergeIn, MergeShown, PreviewShown, merge_view, preview_view
from services.members.merges.service import Merges
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.etag import IfMatchIfSent, etag
from services.shared.identity import Identity
from services.shared.messaging import Origin

Merger = Annotated[Identity, Depends(require("members:write", "members:read", CONTACTS_SCOPE))]
"""Decides about contacts, and is shown them."""
DryRun = Annotated[bool, Query(description="Only show what the merge would do, field by field.")]


def merge_router(merges: Merges) -> APIRouter:
    router = members_router()

    @router.post("/{id}/merge", response_model=MergeShown | PreviewShown, responses=problems(409))
    async def merge_members(
        caller: Merger, id: Id, body: MergeIn, version: IfMatchIfSent, dry_run: DryRun = False
    ) -> Response:
        """Make one member of two records of a person: `other` becomes `merged`, this one stands for both. A
        consent that either has withdrawn is withdrawn. The same merge again changes nothing."""
        if dry_run:
            preview = await merges.preview(caller, id, body.other, body.choice)
            return JSON(preview_view(preview, body.other), headers={"ETag": etag(preview.survivor.version)})
        merge, member = await merges.merge(caller, id, body.other, body.choice, version, Origin.here())
        return JSON(merge_view(merge), headers={"ETag": etag(member.version)})

    return router


def undo_router(merges: Merges) -> APIRouter:
    router = APIRouter(prefix="/v1/merges", tags=["merges"], route_class=Route)

    @router.post("/{id}/undo", response_model=MergeShown, responses=problems(409))
    async def undo_merge(caller: Changer, id: Id) -> Response:
        """Part two members again, within 30 days; merges into the same member in any order. The other has its
        own values and consents back, the survivor what it would have without this merge. What was changed
        since stays, and so does every withdrawal. Undoing again changes nothing."""
        return JSON(merge_view(await merges.undo(caller, id, Origin.here())))

    return router
