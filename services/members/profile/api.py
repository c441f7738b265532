"""The routes that change a member."""

from __future__ import annotations

from fastapi import APIRouter, Response

from services.members.core.api import Changer, Id, Writer, member_answer, members_router
from services.members.core.reading import MemberReader
from services.members.core.schemas import MemberShown
from services.members.core.store import Record
from services.members.profile.schemas import MemberPatch, Move
from services.members.profile.service import Profiles
from services.shared.http.body import problems
from services.shared.http.etag import IfMatch, IfMatchIfSent
from services.shared.identity import Identity
from services.shared.messaging import Origin


def profile_router(profiles: Profiles, reader: MemberReader) -> APIRouter:
    router = members_router()

    async def changed(caller: Identity, record: Record) -> Response:
        [shown] = await reader.show(caller, [record], "change")
        return member_answer(shown.member, shown.contact)

    @router.patch("/{id}", response_model=MemberShown, responses=problems(409))
    async def update_member(caller: Changer, id: Id, version: IfMatch, body: MemberPatch) -> Response:
        """Change what is named in the body; null removes what is optional."""
        return await changed(
            caller, await profiles.update(caller, id, version, body.changes(), Origin.here())
        )

    @router.post("/{id}/move", response_model=MemberShown, responses=problems(409))
    async def move_member(caller: Changer, id: Id, body: Move, version: IfMatchIfSent) -> Response:
        """Move a member to another unit."""
        return await changed(caller, await profiles.move(caller, id, version, body.unit, Origin.here()))

    @router.delete("/{id}", status_code=204, responses=problems(409))
    async def leave(caller: Writer, id: Id, version: IfMatchIfSent) -> Response:
        """The member leaves; the phone number is free again. Repeating it changes nothing."""
        await profiles.leave(caller, id, version, Origin.here())
        return Response(status_code=204)

    return router
