"""The routes of roles, and of the officers of a unit."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Response

from services.members.core.api import Changer, Id, Reader, Writer, members_router
from services.members.roles.schemas import (
    OfficerShown,
    RolesShown,
    TermIn,
    TermShown,
    officer_view,
    record_view,
    term_view,
)
from services.members.roles.service import Roles
from services.shared.contracts.vocabulary import UnitCode
from services.shared.http.body import JSON, Route, problems
from services.shared.http.etag import IfMatchIfSent, etag
from services.shared.http.pagination import Page, Paging
from services.shared.messaging import Origin

ROLE_FORM: Final = "^[a-z][a-z_]{0,39}$"
Role = Annotated[str, Path(pattern=ROLE_FORM, description="A role, such as coordinator.")]
InUnit = Annotated[UnitCode, Query(description="The unit in which the role is held.")]


def roles_router(roles: Roles) -> APIRouter:
    router = members_router()

    @router.put("/{id}/roles/{role}", response_model=TermShown, responses=problems(409))
    async def give_role(
        caller: Changer, id: Id, role: Role, unit: InUnit, version: IfMatchIfSent, body: TermIn | None = None
    ) -> Response:
        """Give the member a role in a unit, or change its time: from now and without an end, if no body."""
        place, origin, time = (role, unit), Origin.here(), body or TermIn()
        member, term = await roles.give(caller, id, place, time.since, time.until, version, origin)
        return JSON(term_view(term), headers={"ETag": etag(member.version)})

    @router.delete("/{id}/roles/{role}", status_code=204)
    async def take_role(caller: Writer, id: Id, role: Role, unit: InUnit, version: IfMatchIfSent) -> Response:
        """End the role in the unit now. Repeating it changes nothing."""
        await roles.take(caller, id, (role, unit), version, Origin.here())
        return Response(status_code=204)

    @router.get("/{id}/roles", response_model=RolesShown)
    async def get_roles(caller: Reader, id: Id) -> Response:
        """The member's roles, also those that begin later, and every change of them."""
        terms, history = await roles.of(caller, id)
        items = [term_view(term) for term in terms]
        return JSON({"items": items, "history": [record_view(record) for record in history]})

    return router


def officers_router(roles: Roles) -> APIRouter:
    router = APIRouter(prefix="/v1/units", tags=["units"], route_class=Route)

    @router.get("/{code}/officers", response_model=Page[OfficerShown])
    async def list_officers(
        caller: Reader,
        code: Annotated[UnitCode, Path(description="A unit code, such as BR-SARAN.")],
        paging: Paging,
        below: Annotated[bool, Query(description="Also of all units below.")] = False,
        role: Annotated[str | None, Query(pattern=ROLE_FORM)] = None,
    ) -> Response:
        """The members who hold a role in the unit now, by unit. A page may have fewer items than `limit`."""
        filters = {"unit": code, "below": below, "role": role}
        window = paging.window("officers", filters, (str, str))
        after = (window.after[0], window.after[1]) if window.after else None
        officers = await roles.officers(
            caller, code, below=below, role=role, after=after, limit=window.limit + 1
        )
        page, cursor = window.cut(officers.page, lambda term: (term.unit, term.id))
        ids = {term.id for term in page}
        items = [officer_view(officer) for officer in officers.shown if officer.term.id in ids]
        return JSON({"items": items, "next": cursor})

    return router
