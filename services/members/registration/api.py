"""The route that registers a member."""

from __future__ import annotations

from fastapi import APIRouter, Response

from services.members.core.api import Writer, member_answer, members_router
from services.members.core.schemas import MemberShown
from services.members.registration.schemas import Registration
from services.members.registration.service import Registrar
from services.shared.http.body import problems
from services.shared.http.idempotency import Idempotent
from services.shared.messaging import Origin


def registration_router(registrar: Registrar) -> APIRouter:
    router = members_router()

    @router.post("", status_code=201, response_model=MemberShown, responses=problems(404, 409))
    async def register(caller: Writer, key: Idempotent, body: Registration) -> Response:
        """Register a person. The answer shows the contact that the caller has just sent."""
        done = await registrar.register(caller, body.application(), Origin.here(), key)
        headers = {"Location": f"/v1/members/{done.member.id}"}
        if done.replayed:
            headers["Idempotent-Replayed"] = "true"
        return member_answer(done.member, done.contact, 201, headers)

    return router
