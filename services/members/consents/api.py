"""The routes of consents and of the notices that people are shown."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from services.members.consents.schemas import (
    STAFF,
    ConsentIn,
    LedgerShown,
    NoticeIn,
    NoticeShown,
    ProofShown,
    Source,
    consent_view,
    ledger_view,
    notice_view,
    proof_view,
)
from services.members.consents.service import Consents, Notices
from services.members.core.api import Id, Reader, Writer, members_router
from services.members.core.schemas import ConsentShown, Label
from services.shared.contracts.vocabulary import Channel, Language, Purpose
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.etag import IfMatchIfSent, etag
from services.shared.identity import Identity
from services.shared.messaging import Origin

Recorder = Annotated[Identity, Depends(require("consents:write", "members:read"))]
"""Records that somebody consented, and is shown it. Withdrawing needs less, so that it is as easy."""
Registrar = Annotated[Identity, Depends(require("notices:write", everywhere=True))]
Version = Annotated[Label, Path(description="The version that consents name.")]


def consents_router(consents: Consents) -> APIRouter:
    router = members_router()

    @router.put("/{id}/consents/{purpose}/{channel}", response_model=ConsentShown, responses=problems(409))
    async def give(
        caller: Recorder, id: Id, purpose: Purpose, channel: Channel, body: ConsentIn, version: IfMatchIfSent
    ) -> Response:
        """Record that the member consents. Recording it again changes nothing."""
        given = body.given(purpose.value, channel.value)
        member, consent = await consents.give(caller, id, given, version, Origin.here())
        return JSON(consent_view(consent), headers={"ETag": etag(member.version)})

    @router.delete("/{id}/consents/{purpose}/{channel}", status_code=204)
    async def withdraw(
        caller: Writer,
        id: Id,
        purpose: Purpose,
        channel: Channel,
        version: IfMatchIfSent,
        source: Annotated[Source, Query(description="How it was said.")] = STAFF,
    ) -> Response:
        """Withdraw a consent, or refuse one that was never given, at once. Again, it changes nothing."""
        pair = (purpose.value, channel.value)
        await consents.withdraw(caller, id, pair, source, version, Origin.here())
        return Response(status_code=204)

    @router.get("/{id}/consents", response_model=LedgerShown)
    async def get_ledger(caller: Reader, id: Id) -> Response:
        """The member's consents now, and every change of them."""
        return JSON(ledger_view(await consents.ledger(caller, id)))

    @router.get("/{id}/consents/proof", response_model=ProofShown)
    async def get_proof(caller: Reader, id: Id) -> Response:
        """The ledger with the text of each notice in it, to be handed over as a proof."""
        return JSON(proof_view(await consents.proof(caller, id)))

    return router


def notices_router(notices: Notices) -> APIRouter:
    router = APIRouter(prefix="/v1/notices", tags=["notices"], route_class=Route)

    @router.get("/{version}/{language}", response_model=NoticeShown)
    async def get_notice(caller: Reader, version: Version, language: Language) -> Response:
        """A text that people were shown; it belongs to no unit."""
        return JSON(notice_view(await notices.get(version, language.value)))

    @router.put(
        "/{version}/{language}",
        responses={200: {"model": NoticeShown}, 201: {"model": NoticeShown}, **problems(409)},
    )
    async def put_notice(caller: Registrar, version: Version, language: Language, body: NoticeIn) -> Response:
        """Register a text (201). It never changes: another text needs another version (409)."""
        notice, created = await notices.register(caller, version, language.value, body.text)
        return JSON(notice_view(notice), 201 if created else 200)

    return router
