"""The HTTP API of placements."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from fastapi import APIRouter, Depends, Path, Query, Response

from services.groups.core.schemas import Id
from services.groups.placement.schemas import (
    HoldingsOut,
    PlacementsOut,
    WaitingOut,
    holdings_out,
    seats_out,
    waiting_out,
)
from services.groups.placement.service import PlacementService
from services.shared.contracts.vocabulary import UnitCode
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.pagination import Page, Paging
from services.shared.identity import Identity

Reader = Annotated[Identity, Depends(require("groups:read"))]
Gatherer = Annotated[Identity, Depends(require("holdings:read"))]
Waiting = Annotated[Literal["waiting_unit"], Query(description="Members of units that do not exist.")]


def placement_router(service: PlacementService) -> APIRouter:
    router = APIRouter(prefix="/v1", route_class=Route)

    @router.get("/placements", response_model=Page[WaitingOut], responses=problems(404))
    async def list_placements(
        paging: Paging,
        caller: Reader,
        state: Waiting,
        unit: Annotated[UnitCode | None, Query(description="The subtree of this unit.")] = None,
    ) -> Response:
        """Members who wait for a unit, by its code: it is mistyped, or has not been loaded."""
        root = caller.accessible_root(unit)
        window = paging.window("placements", {"unit": root, "state": state}, (str, str))
        after = cast("tuple[str, str] | None", window.after)
        found = await service.waiting(caller, root, after, window.limit + 1)
        page, cursor = window.cut(found, lambda placement: (placement.unit, placement.member_id))
        return JSON({"items": [waiting_out(placement) for placement in page], "next": cursor})

    @router.get("/members/{id}/groups", response_model=PlacementsOut)
    async def get_placements(member_id: Annotated[Id, Path(alias="id")], caller: Reader) -> Response:
        """Where a member is placed, and in what state: the general seat first."""
        placement = await service.placement_of(caller, member_id)
        return JSON({"items": seats_out(placement)})

    @router.get("/members/{id}/holdings", response_model=HoldingsOut)
    async def get_holdings(member_id: Annotated[Id, Path(alias="id")], caller: Gatherer) -> Response:
        """All that this service holds about a member, for the dossier that members hands over."""
        return JSON(holdings_out(member_id, *await service.held(caller, member_id)))

    return router
