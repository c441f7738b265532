"""The route that matches numbers to members."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from services.members.core.api import members_router
from services.members.matching.schemas import Matched, Roster, match_view
from services.members.matching.service import Matching
from services.shared.http.auth import require
from services.shared.http.body import JSON, problems
from services.shared.identity import Identity

Matcher = Annotated[Identity, Depends(require("members:match"))]


def matching_router(matching: Matching) -> APIRouter:
    router = members_router()

    @router.post("/match", response_model=Matched, responses=problems(404))
    async def match_phones(caller: Matcher, body: Roster) -> Response:
        """The active members of a unit and all below it who have these numbers, in the order sent: for
        reconciling a chat group with its roster. Calls are recorded, also those that find nobody."""
        found = await matching.match(caller, body.unit, body.phones)
        return JSON({"items": [match_view(each) for each in found]})

    return router
