"""The routes that show suspected duplicates and dismiss them; `merges` has those that act on them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from services.members.core.api import Changer, Id, Reader
from services.members.duplicates.schemas import DuplicateShown, PairState, duplicate_view
from services.members.duplicates.service import Duplicates
from services.shared.contracts.vocabulary import UnitCode
from services.shared.http.body import JSON, Route, problems
from services.shared.http.pagination import Page, Paging

Unit = Annotated[UnitCode | None, Query(description="Both members are in this unit or below it.")]


def duplicates_router(duplicates: Duplicates) -> APIRouter:
    router = APIRouter(prefix="/v1/duplicates", tags=["duplicates"], route_class=Route)

    @router.get("", response_model=Page[DuplicateShown], responses=problems(404))
    async def list_duplicates(
        caller: Reader, paging: Paging, unit: Unit = None, state: PairState = PairState.OPEN
    ) -> Response:
        """Pairs of members who may be one person, in the order found. They are looked for in the background:
        a change is looked at within seconds."""
        filters = {"unit": unit, "state": state, "root": caller.unit}
        window = paging.window("duplicates", filters, (str,))
        rows = await duplicates.page(caller, unit, state.value, window.after_id, window.limit + 1)
        page, cursor = window.cut(rows, lambda pair: (pair.id,))
        shown = await duplicates.shown(caller, page)
        return JSON({"items": [duplicate_view(each) for each in shown], "next": cursor})

    @router.post("/{id}/dismiss", response_model=DuplicateShown)
    async def dismiss_duplicate(caller: Changer, id: Id) -> Response:
        """These are two people: the pair is never suggested again, whatever changes."""
        return JSON(duplicate_view(await duplicates.dismiss(caller, id)))

    return router
