"""The HTTP API of placements."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response

from services.groups.core.schemas import Id
from services.groups.placement.schemas import PlacementsOut, placement_out
from services.groups.placement.service import PlacementService
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route
from services.shared.identity import Identity

Reader = Annotated[Identity, Depends(require("groups:read"))]


def placement_router(service: PlacementService) -> APIRouter:
    router = APIRouter(prefix="/v1", route_class=Route)

    @router.get("/members/{id}/groups", response_model=PlacementsOut)
    async def get_placements(member_id: Annotated[Id, Path(alias="id")], caller: Reader) -> Response:
        """Where a member is placed, and in what state."""
        placement = await service.placement_of(caller, member_id)
        return JSON({"items": [placement_out(placement)]})

    return router
