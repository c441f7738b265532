"""The routes of redrawing."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Query, Response

from services.members.core.api import Reader, Writer
from services.members.redrawing.schemas import MappedShown, MappingsIn, UnmappedShown, mapped_view
from services.members.redrawing.service import Mappings
from services.shared.contracts.vocabulary import UnitCode
from services.shared.http.body import JSON, Route, problems
from services.shared.http.pagination import Page, Paging
from services.shared.messaging import Origin

Unit = Annotated[UnitCode | None, Query(description="The subtree of this unit.")]


def redrawing_router(mappings: Mappings) -> APIRouter:
    router = APIRouter(prefix="/v1/redrawings", tags=["redrawings"], route_class=Route)

    @router.get("/unmapped", response_model=Page[UnmappedShown])
    async def list_unmapped(caller: Reader, paging: Paging, unit: Unit = None) -> Response:
        """Members of units that were split or given up, who belong to no live unit yet."""
        root = caller.accessible_root(unit)
        window = paging.window("unmapped", {"unit": root}, (str, str))
        after = cast("tuple[str, str] | None", window.after)
        found = await mappings.unmapped(caller, root, after, window.limit + 1)
        page, cursor = window.cut(found, lambda each: (each.unit, each.member_id))
        return JSON({"items": [each._asdict() for each in page], "next": cursor})

    @router.post("/members", response_model=MappedShown, responses=problems(404))
    async def map_members(caller: Writer, body: MappingsIn) -> Response:
        """Say to which part of their unit, which was split, up to 500 members belong. They move without a
        change of seat. Whoever is refused is listed with the reason; the others are done, and repeating it
        changes nothing."""
        wanted = [(each.member_id, each.unit) for each in body.items]
        return JSON(mapped_view(await mappings.map(caller, wanted, Origin.here())))

    return router
