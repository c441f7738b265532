"""The routes of rosters and drift."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import ValidationError

from services.groups.core.observations.domain import Cause
from services.groups.core.schemas import Id
from services.groups.rosters.entries import Entries, read
from services.groups.rosters.schemas import (
    DriftOut,
    GroupDriftOut,
    RosterIn,
    drift_out,
    group_drift_out,
)
from services.groups.rosters.service import RosterService, read_text
from services.shared.contracts.vocabulary import UnitCode
from services.shared.errors import FieldError, InvalidError
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.idempotency import IdempotentFile
from services.shared.http.pagination import Paging
from services.shared.http.problem import Problem
from services.shared.http.values import Timestamp
from services.shared.identity import Identity
from services.shared.runtime import JobOut, accepted

Reader = Annotated[Identity, Depends(require("groups:read"))]
Uploader = Annotated[Identity, Depends(require("groups:write"))]
GroupId = Annotated[Id, Path(alias="id")]
_TEXT: Final = ("text/csv", "text/plain", "text/vcard", "text/x-vcard")
_JSON: Final = "application/json"
_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            **{name: {"schema": {"type": "string"}} for name in _TEXT},
            _JSON: {"schema": RosterIn.model_json_schema()},
        },
    }
}
MAX_PROBLEMS: Final = 10


def rosters_router(rosters: RosterService) -> APIRouter:
    router = APIRouter(prefix="/v1", route_class=Route)

    @router.post(
        "/groups/{id}/roster",
        status_code=202,
        response_model=JobOut,
        responses=problems(400, 413, 415, 422, 503),
        openapi_extra=_BODY,
    )
    async def upload_roster(
        request: Request,
        group_id: GroupId,
        caller: Uploader,
        key: IdempotentFile,
        complete: Annotated[
            bool,
            Query(description="Whether everybody in the chat group is on it: only then is anybody absent."),
        ],
        taken_at: Annotated[Timestamp | None, Query(description="Now, unless it is older.")] = None,
        force: Annotated[
            bool, Query(description="Take it although most people on it belong to another group.")
        ] = False,
    ) -> Response:
        """Send who is in the chat group: member ids, or numbers as a phone's contact list has them, in JSON
        or as text, CSV or vCard. A job compares it with the seats; numbers of no member are counted and not
        kept. An Idempotency-Key makes a repeated request answer the same job."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (*_TEXT, _JSON):
            raise Problem(415, "unsupported-media-type", "Unsupported media type", "send text, CSV or JSON")
        content = await request.body()
        if key:
            key.add(content)
        job = await rosters.upload(
            caller,
            group_id,
            await asyncio.to_thread(_entries, content, kind),
            taken_at,
            complete=complete,
            force=force,
            request=key.request() if key else None,
        )
        return accepted(job)

    @router.get("/groups/{id}/drift", response_model=GroupDriftOut, responses=problems(400))
    async def get_group_drift(
        group_id: GroupId,
        paging: Paging,
        caller: Reader,
        cause: Annotated[Cause | None, Query()] = None,
    ) -> Response:
        """Members who are not where they should be, by the rosters of this group, in order of id."""
        window = paging.window("drift", {"group": group_id, "cause": cause}, (str,))
        drift = await rosters.drift_of_group(caller, group_id, cause, window.after_id, window.limit + 1)
        page, cursor = window.cut(drift.members, lambda each: (each.member_id,))
        return JSON(group_drift_out(drift, page, cursor))

    @router.get("/drift", response_model=DriftOut, responses=problems(404))
    async def get_drift(
        caller: Reader,
        unit: Annotated[UnitCode | None, Query(description="The subtree of this unit.")] = None,
    ) -> Response:
        """The drift of all groups of a subtree of which there was a roster, by kind and cause."""
        return JSON({"items": [drift_out(row) for row in await rosters.drift(caller, unit)]})

    return router


def _entries(content: bytes, kind: str) -> Entries:
    if kind == _JSON:
        return _from_json(content)
    return read_text(content, vcard=kind.endswith("vcard"))


def _from_json(content: bytes) -> Entries:
    try:
        body = RosterIn.model_validate_json(content)
    except ValidationError as error:
        fields = [
            FieldError("/" + "/".join(map(str, each["loc"])) if each["loc"] else "", each["msg"])
            for each in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise InvalidError(fields[:MAX_PROBLEMS]) from None
    found = read(["", *body.phones])
    ids = tuple(dict.fromkeys((*body.members, *found.ids)))
    return Entries(ids, found.numbers, found.unreadable)
