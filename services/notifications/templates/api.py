"""The HTTP API of templates. Texts go to everybody, so whoever writes one must have all units."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Path, Response
from pydantic import StringConstraints

from services.notifications.core.templates.catalogue import known
from services.notifications.core.templates.domain import NAME
from services.notifications.templates.schemas import (
    ApprovalIn,
    ApprovedChannel,
    PreviewIn,
    PreviewOut,
    TemplateOut,
    TestIn,
    TestOut,
    TextIn,
    TextLanguage,
    TextVersionOut,
    approval_of,
    shown_out,
    template_out,
    version_out,
    wording_of,
)
from services.notifications.templates.service import TemplateService
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.etag import Preconditions, etag
from services.shared.http.idempotency import Idempotent
from services.shared.http.pagination import Page, Paging
from services.shared.http.problem import Problem
from services.shared.identity import Identity
from services.shared.messaging import Origin

Reader = Annotated[Identity, Depends(require("notifications:read"))]
Writer = Annotated[Identity, Depends(require("notifications:write", everywhere=True))]
Tester = Annotated[Identity, Depends(require("notifications:write"))]
Name = Annotated[str, StringConstraints(pattern=NAME), Path(description="Such as `welcome`.")]
PATH = "/v1/templates"


def templates_router(templates: TemplateService) -> APIRouter:
    router = APIRouter(prefix=PATH, route_class=Route)

    @router.get("", response_model=Page[TemplateOut])
    async def list_templates(paging: Paging, caller: Reader) -> Response:
        """Each text in each of its languages, by name and language."""
        window = paging.window("templates", {}, (str, str))
        after = cast("tuple[str, str] | None", window.after)
        rows = await templates.page(after, window.limit + 1)
        page, cursor = window.cut(rows, lambda e: (e.newest.version.name, e.newest.version.language))
        items = [template_out(each, known(each.newest.version.name).variables) for each in page]
        return JSON({"items": items, "next": cursor})

    @router.get("/{name}/{language}", response_model=TemplateOut)
    async def get_template(name: Name, language: TextLanguage, caller: Reader) -> Response:
        entry = await templates.get(name, language)
        headers = {"ETag": etag(entry.newest.version.version)}
        return JSON(template_out(entry, known(name).variables), headers=headers)

    @router.put(
        "/{name}/{language}",
        responses={
            200: {"model": TextVersionOut},
            201: {"model": TextVersionOut},
            **problems(409, 412, 428),
        },
    )
    async def put_template(
        name: Name, language: TextLanguage, body: TextIn, caller: Writer, preconditions: Preconditions
    ) -> Response:
        """Make a new version (201) of a text; the same words again change nothing (200). `If-Match` names the
        version that it follows, `If-None-Match: *` makes the first one. Hindi comes first: the other
        languages fall back to it. On a channel of approved templates, the version before stays in use until
        this one is approved."""
        if preconditions.if_match is None and preconditions.if_none_match is None:
            detail = "send If-Match with the ETag of the version that this one follows, or If-None-Match: *"
            raise Problem(428, "if-match-required", "Precondition required", detail)
        version, created = await templates.put(caller, name, language, wording_of(body), preconditions.check)
        headers = {"ETag": etag(version.version)}
        headers |= {"Location": f"{PATH}/{name}/{language}"} if created else {}
        return JSON(version_out(version), 201 if created else 200, headers)

    @router.get("/{name}/{language}/versions", response_model=Page[TextVersionOut])
    async def list_versions(name: Name, language: TextLanguage, paging: Paging, caller: Reader) -> Response:
        """The versions that were put, the newest first."""
        window = paging.window("template-versions", {"name": name, "language": language}, (int,))
        before = cast("int | None", window.after and window.after[0])
        rows = await templates.versions(name, language, before, window.limit + 1)
        page, cursor = window.cut(rows, lambda each: (each.version,))
        return JSON({"items": [version_out(each) for each in page], "next": cursor})

    @router.put("/{name}/{language}/approvals/{channel}", response_model=TextVersionOut)
    async def put_approval(
        name: Name, language: TextLanguage, channel: ApprovedChannel, body: ApprovalIn, caller: Writer
    ) -> Response:
        """Register how far the approval of a version has come on a channel. The approval of version 0, the
        text as shipped, makes it version 1: approved words do not change with a release."""
        approval = approval_of(channel, body, templates.now())
        version = await templates.approve(caller, name, language, body.version, approval)
        return JSON(version_out(version), headers={"ETag": etag(version.version)})

    @router.post("/{name}/preview", response_model=PreviewOut)
    async def preview_template(name: Name, body: PreviewIn, caller: Reader) -> Response:
        """Show a text as it would go on each channel: its length, parts and cost, and what to know."""
        wording = None if body.text is None else wording_of(body)
        shown = await templates.preview(name, body.language, body.values, wording)
        return JSON({"channels": [shown_out(each, templates.currency) for each in shown]})

    @router.post("/{name}/test", status_code=202, response_model=TestOut, responses=problems(404, 409))
    async def test_template(name: Name, caller: Tester, key: Idempotent, body: TestIn) -> Response:
        """Send a text to one member as a test, with samples for what is not the member's own. It waits in the
        same queue, obeys the same limits, and goes only to whoever has agreed to such messages there."""
        id_ = await templates.test(caller, name, body.member_id, body.channel, key, Origin.here())
        return JSON({"id": id_}, 202, {"Location": f"/v1/notifications/{id_}"})

    return router
