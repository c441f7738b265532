"""The route of dossiers."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response

from services.members.core.api import Id, members_router
from services.members.core.reading import CONTACTS_SCOPE
from services.members.dossier.page import POLICY, Page
from services.members.dossier.schemas import DossierShown, dossier_view
from services.members.dossier.service import Dossiers
from services.shared.http.auth import require
from services.shared.http.body import JSON, problems
from services.shared.identity import Identity

Gatherer = Annotated[Identity, Depends(require("dossiers:read", CONTACTS_SCOPE))]
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/html": {"schema": {"type": "string"}}}},
    **problems(503),
}
_VARY: Final = {"Vary": "Accept"}


def dossier_router(dossiers: Dossiers, page: Page) -> APIRouter:
    router = members_router()

    @router.get("/{id}/dossier", response_model=DossierShown, responses=_ANSWERS)
    async def get_dossier(caller: Gatherer, id: Id, request: Request) -> Response:
        """All that the four services hold about a person, also about one who left: as JSON, or for
        `Accept: text/html` as a page in Hindi and English that can be printed and handed over.

        `profile` is that of the member who stands for the person, and `merged` has the records that were
        merged into it. A member who was merged has no dossier of their own: theirs is the same one, for who
        may see the member that stands for them.

        It is whole: while one of the services does not answer there is none (503, which names it). It is
        recorded as a read of the contact of each record.
        """
        view = dossier_view(await dossiers.gather(caller, id))
        if not prefers_page(request.headers.get("accept", "")):
            return JSON(view, headers=_VARY)
        headers = _VARY | {"Content-Security-Policy": POLICY}
        return Response(page.render(view), media_type="text/html; charset=utf-8", headers=headers)

    return router


def prefers_page(accept: str) -> bool:
    """Whether an `Accept` header (RFC 9110, 12.5.1) prefers HTML to JSON, as a browser's does."""
    weights = {"text/html": 0.0, "application/json": 0.0, "*/*": 0.0}
    for each in accept.split(","):
        media, _, parameters = each.strip().lower().partition(";")
        if media.strip() in weights:
            weights[media.strip()] = _weight(parameters)
    return weights["text/html"] > max(weights["application/json"], weights["*/*"] * 0.999)


def _weight(parameters: str) -> float:
    for each in parameters.split(";"):
        name, _, value = each.strip().partition("=")
        if name == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
