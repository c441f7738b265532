"""The routes that providers call, and those of operators. The first carry no token: a callback proves itself
by its signature, or by the secret in its URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import PlainTextResponse, Response

from services.notifications.webhooks.intake import MAX_BODY, SMS, WHATSAPP, Intake, RefusedError, Room
from services.notifications.webhooks.schemas import (
    BuriedOut,
    CallerOut,
    InferredOut,
    buried_out,
    caller_out,
    inferred_out,
)
from services.notifications.webhooks.service import Webhooks
from services.shared.http.auth import require
from services.shared.http.body import JSON, Route, problems
from services.shared.http.pagination import Page, Paging
from services.shared.http.problem import Problem
from services.shared.http.values import Canonical
from services.shared.identity import Identity

PREFIX: Final = "/webhooks"
WHATSAPP_PATH: Final = f"{PREFIX}/whatsapp"
SMS_PATH: Final = f"{PREFIX}/sms"
FORM: Final = "application/x-www-form-urlencoded"
_ANY: Final = {"type": "string", "format": "binary"}
_BODY: Final[dict[str, Any]] = {"requestBody": {"required": True, "content": {"*/*": {"schema": _ANY}}}}

Mode = Annotated[str, Query(alias="hub.mode", max_length=40)]
Token = Annotated[str, Query(alias="hub.verify_token", max_length=400)]
Challenge = Annotated[str, Query(alias="hub.challenge", pattern=r"^[A-Za-z0-9_.-]{1,200}$")]
Gateway = Annotated[str, Path(max_length=40)]
Secret = Annotated[str, Path(max_length=400)]


def body_limits(sms_secrets: Mapping[str, str]) -> dict[str, int]:
    """The limits in bytes of the paths that providers call; `sms_secrets` are those in them, by gateway. Any
    other path has the usual limit."""
    paths = [f"{SMS_PATH}/{gateway}/{secret}" for gateway, secret in sms_secrets.items()]
    return dict.fromkeys([WHATSAPP_PATH, *paths], MAX_BODY)


class CallbackRoute(Route):
    """A callback in a URL: its parameters are the provider's."""

    any_query = True


def webhooks_router(intake: Intake) -> APIRouter:
    router = APIRouter(prefix=PREFIX, route_class=Route)

    @router.get("/whatsapp", response_class=PlainTextResponse, responses=problems(403, 404))
    async def verify_whatsapp(mode: Mode, token: Token, challenge: Challenge) -> Response:
        """Answer WhatsApp's challenge when this URL is registered there."""
        try:
            return PlainTextResponse(intake.challenge(mode, token, challenge))
        except RefusedError:
            raise _forbidden() from None

    @router.post(
        "/whatsapp", response_class=Response, responses=problems(403, 404, 413, 503), openapi_extra=_BODY
    )
    async def receive_whatsapp(request: Request) -> Response:
        """Store a callback of WhatsApp, signed in `X-Hub-Signature-256`; at most 4 MiB. It is applied
        afterwards."""
        intake.expects_whatsapp()
        headers = request.headers
        with intake.room() as room:
            body = await _body(request, room)
            if not await intake.is_signed(body, headers.get("x-hub-signature-256")):
                raise _forbidden()
            _enter(request, WHATSAPP)
            await intake.take(WHATSAPP, body, headers.get("content-type", ""))
        return Response(status_code=200)

    @router.post(
        "/sms/{gateway}/{secret}",
        response_class=Response,
        responses=problems(404, 413, 503),
        openapi_extra=_BODY,
    )
    async def receive_sms(request: Request, gateway: Gateway, secret: Secret) -> Response:
        """Store a callback of an SMS gateway, at most 4 MiB; the URL with its secret is given to the gateway
        with each message. It is applied afterwards."""
        intake.expects_sms(gateway, secret)
        _enter(request, SMS + gateway)
        with intake.room() as room:
            body = await _body(request, room)
            await intake.take(SMS + gateway, body, request.headers.get("content-type", ""))
        return Response(status_code=200)

    async def receive_call(request: Request, gateway: Gateway, secret: Secret) -> Response:
        """Store a callback that comes in the query, as that of a missed call does. It is applied
        afterwards."""
        intake.expects_sms(gateway, secret)
        _enter(request, SMS + gateway)
        await intake.take(SMS + gateway, request.scope["query_string"], FORM)
        return Response(status_code=200)

    router.add_api_route(
        "/sms/{gateway}/{secret}",
        receive_call,
        methods=["GET"],
        response_class=Response,
        responses=problems(404, 503),
        route_class_override=CallbackRoute,
    )
    return router


OpsReader = Annotated[Identity, Depends(require("ops:read", everywhere=True))]
OpsWriter = Annotated[Identity, Depends(require("ops:write", everywhere=True))]
Reader = Annotated[Identity, Depends(require("notifications:read"))]
Writer = Annotated[Identity, Depends(require("notifications:write"))]
CallerReader = Annotated[Identity, Depends(require("contacts:read", everywhere=True))]
CallerWriter = Annotated[Identity, Depends(require("contacts:read", "notifications:write", everywhere=True))]
CallbackId = Annotated[str, Path(alias="id", pattern=r"^[0-9a-f]{64}$")]
OptOutId = Annotated[str, Path(alias="id", pattern=r"^[a-z]{1,16}:[A-Za-z0-9_-]{43}$")]
CallId = Annotated[str, Path(alias="id", pattern=r"^[A-Za-z0-9-]{1,64}$"), Canonical]


def operators_router(webhooks: Webhooks) -> APIRouter:
    router = APIRouter(prefix="/v1", route_class=Route)

    @router.get("/callbacks/buried", response_model=Page[BuriedOut])
    async def list_buried(caller: OpsReader, paging: Paging) -> Response:
        """Callbacks that were set aside because they, or a part of them, cannot be applied; nothing of their
        content. They are kept for nine days."""
        window = paging.window("buried-callbacks", {}, (str,))
        rows = await webhooks.buried(window.after_id, window.limit + 1)
        page, cursor = window.cut(rows, lambda each: (each.id,))
        return JSON({"items": [buried_out(each) for each in page], "next": cursor})

    @router.post("/callbacks/{id}/apply", status_code=202)
    async def apply_buried(id_: CallbackId, caller: OpsWriter) -> Response:
        """Have a callback that was set aside applied again, as after a release that can read it. What it has
        changed already does not change again."""
        await webhooks.dig_up(id_)
        return Response(status_code=202)

    @router.get("/opt-outs/inferred", response_model=Page[InferredOut], responses=problems(404))
    async def list_inferred(caller: Reader, paging: Paging) -> Response:
        """Opt-outs that only an error of a gateway tells of. Nothing goes to these addresses. Many at once
        are a gateway's mistake."""
        window = paging.window("inferred-opt-outs", {"root": caller.unit}, (str,))
        rows = await webhooks.inferred(caller, window.after_id, window.limit + 1)
        page, cursor = window.cut(rows, lambda each: (each.id,))
        return JSON({"items": [inferred_out(each) for each in page], "next": cursor})

    @router.delete("/opt-outs/{id}", status_code=204, responses=problems(409))
    async def lift_inferred(id_: OptOutId, caller: Writer) -> Response:
        """Lift an opt-out that was inferred. One that the person has made is theirs to lift (409)."""
        await webhooks.lift(caller, id_)
        return Response(status_code=204)

    @router.get("/callers", response_model=Page[CallerOut])
    async def list_callers(caller: CallerReader, paging: Paging) -> Response:
        """Numbers that have asked to join by a missed call and are no member's, to be called back."""
        window = paging.window("callers", {}, (str,))
        rows = await webhooks.callers(caller, window.after_id, window.limit + 1)
        page, cursor = window.cut(rows, lambda each: (each.id,))
        return JSON({"items": [caller_out(each) for each in page], "next": cursor})

    @router.delete("/callers/{id}", status_code=204)
    async def forget_caller(id_: CallId, caller: CallerWriter) -> Response:
        """Destroy the number of somebody who was called back."""
        await webhooks.forget_caller(id_)
        return Response(status_code=204)

    return router


async def _body(request: Request, room: Room) -> bytes:
    pieces: list[bytes] = []
    async for piece in request.stream():
        room.add(piece)
        pieces.append(piece)
    return b"".join(pieces)


def _enter(request: Request, source: str) -> None:
    """Count it as a request of its sender, who is known now: callbacks leave room for other callers.

    Raises: `Problem` 429 when too many are in progress; senders try again.
    """
    request.app.callers.enter(request.scope, f"webhooks:{source}")


def _forbidden() -> Problem:
    return Problem(403, "forbidden", "Forbidden", "the signature or the token is missing or wrong")
