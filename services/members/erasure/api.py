"""The routes of erasures."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from services.members.core.api import Id, Reader, members_router
from services.members.core.erasing import ErasureState
from services.members.core.reading import CONTACTS_SCOPE
from services.members.erasure.schemas import ErasureShown, RemovalsShown, erasure_view, removals_view
from services.members.erasure.service import Erasures
from services.shared.contracts.vocabulary import UnitCode
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.pagination import Page, Paging
from services.shared.http.values import Canonical
from services.shared.identity import Identity
from services.shared.messaging import Origin

PATH = "/v1/erasures"
SCOPE = "erasure:write"
REMOVALS_SCOPE = "removals:write"
"""For those who look after chat groups: it erases nobody."""
Eraser = Annotated[Identity, Depends(require(SCOPE))]
Remover = Annotated[Identity, Depends(require(REMOVALS_SCOPE, CONTACTS_SCOPE))]
Done = Annotated[Identity, Depends(require(REMOVALS_SCOPE))]
GroupId = Annotated[str, Path(max_length=64), Canonical]


def request_router(erasures: Erasures) -> APIRouter:
    router = members_router()

    @router.post("/{id}/erasure", status_code=202, response_model=ErasureShown)
    async def erase_member(caller: Eraser, id: Id) -> Response:
        """Erase a member. They are out of use at once, in every list, search and answer, and cannot be found
        again; the phone is free. The other services are asked to destroy what they keep (202); the erasure
        shows who has. Asking again answers the same erasure."""
        erasure = await erasures.request(caller, id, Origin.here())
        return JSON(erasure_view(erasure), 202, {"Location": f"{PATH}/{erasure.id}"})

    return router


def erasures_router(erasures: Erasures) -> APIRouter:
    router = APIRouter(prefix=PATH, tags=["erasures"], route_class=Route)

    @router.get("", response_model=Page[ErasureShown], responses=problems(404))
    async def list_erasures(
        caller: Reader,
        paging: Paging,
        unit: Annotated[UnitCode | None, Query(description="Of this subtree.")] = None,
        state: ErasureState | None = None,
    ) -> Response:
        """The erasures of your units, the newest first."""
        word = state.value if state else None
        window = paging.window("erasures", {"unit": unit, "state": word, "root": caller.unit}, (str,))
        rows = await erasures.page(caller, unit, word, window.after_id, window.limit + 1)
        page, cursor = window.cut(rows, lambda each: (each.id,))
        return JSON({"items": [erasure_view(each) for each in page], "next": cursor})

    @router.get("/{id}", response_model=ErasureShown)
    async def get_erasure(caller: Reader, id: Id) -> Response:
        """How far it is, and at the end the certificate."""
        return JSON(erasure_view(await erasures.get(caller, id)))

    @router.get("/{id}/removals", response_model=RemovalsShown)
    async def get_removals(caller: Remover, id: Id) -> Response:
        """The chat groups from which an admin must remove the person, with name and phone until all are done.
        The read is recorded."""
        return JSON(removals_view(*await erasures.person(caller, id)))

    @router.post("/{id}/removals/{group_id}", response_model=ErasureShown)
    async def removed(caller: Done, id: Id, group_id: GroupId) -> Response:
        """The person was removed from the chat group. After the last one, the number is destroyed."""
        return JSON(erasure_view(await erasures.removed(caller, id, group_id)))

    return router
