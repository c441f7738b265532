"""The parts that the routes of several features share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response

from services.members.core.domain import Contact, Member
from services.members.core.schemas import member_view
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route
from services.shared.http.etag import etag
from services.shared.http.values import Canonical
from services.shared.identity import Identity

Reader = Annotated[Identity, Depends(require("members:read"))]
Writer = Annotated[Identity, Depends(require("members:write"))]
Changer = Annotated[Identity, Depends(require("members:write", "members:read"))]
"""The answer to a change shows the member, so the caller needs the right to read it."""
Id = Annotated[str, Path(max_length=64), Canonical]


def members_router() -> APIRouter:
    return APIRouter(prefix="/v1/members", tags=["members"], route_class=Route)


def member_answer(
    member: Member, contact: Contact | None, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """One member with its `ETag`."""
    return JSON(member_view(member, contact), status, {"ETag": etag(member.version), **(headers or {})})
