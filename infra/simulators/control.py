"""The control API of the child process: everything that a test does to a simulator in process, over HTTP.

README.md lists the routes. It is for this machine alone, has no rights to check, and answers 400 with
`{"error": "..."}` to what it cannot follow.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, fields
from inspect import isawaitable
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from infra.simulators.callbacks import CallbackFailedError
from infra.simulators.exotel import DltTemplate, ExotelSimulator
from infra.simulators.gateway import Gateway
from infra.simulators.ledger import Taken
from infra.simulators.presets import preset_named
from infra.simulators.serving import Json, body_of
from infra.simulators.smtp import Mail, SmtpSimulator
from infra.simulators.steering import SteeringError
from infra.simulators.whatsapp import Disorder, Template, WhatsAppSimulator

Answer = Callable[[Any, dict[str, Any]], Any]
Handler = Callable[[Request], Awaitable[Response]]
MAX_PAGE: Final = 10_000
_WHATSAPP: Final = (
    *("inbound_text", "inbound_button", "inbound_interactive", "inbound_contact", "change_user_id"),
    *("change_number", "prefer", "person", "opens_window", "template_status", "template_quality"),
    *("account_update", "number_quality", "capability", "group_participants", "value_error", "replay"),
    *("verify", "release", "set_limits", "switch_marketing"),
)
_EXOTEL: Final = ("missed_call", "inbound_sms", "callback", "release", "set_limits")
ACTS: Final[dict[type[Gateway[Any]], tuple[str, ...]]] = {
    WhatsAppSimulator: _WHATSAPP,
    ExotelSimulator: _EXOTEL,
    SmtpSimulator: (),
}
"""Methods that `POST /{gateway}/do/{act}` calls, with the body's fields as arguments."""


class ControlError(ValueError):
    """A request that cannot be followed."""


def control(gateways: Sequence[Gateway[Any]]) -> Router:
    """The control API of these gateways."""
    by_name = {gateway.name: gateway for gateway in gateways}

    def handling(answer: Answer, only: type[Gateway[Any]] | None = None) -> Handler:
        async def handle(request: Request) -> Response:
            gateway = by_name.get(request.path_params.get("gateway", only.name if only else ""))
            if gateway is None or (only is not None and not isinstance(gateway, only)):
                return Json({"error": "no such gateway here"}, 404)
            try:
                given = {**request.query_params, **request.path_params, **await _object(request)}
                given.pop("gateway", None)
                result = answer(gateway, given)
                done = await result if isawaitable(result) else result
                return Json({} if done is None else done)
            except TimeoutError:
                return Json({"error": "not settled in time"}, 504)
            except (ValueError, TypeError, KeyError, CallbackFailedError) as wrong:
                return Json({"error": f"{type(wrong).__name__}: {wrong}"}, 400)

        return handle

    async def health(_: Request) -> Response:
        return Json({name: gateway.address for name, gateway in by_name.items()})

    routes = [Route("/healthz", health)]
    for path, method, answer in _ROUTES:
        routes.append(Route(f"/{{gateway}}{path}", handling(answer), methods=[method]))
    routes += [
        Route("/whatsapp/templates", handling(_add_templates, WhatsAppSimulator), methods=["POST"]),
        Route("/whatsapp/webhooks", handling(_shape, WhatsAppSimulator), methods=["POST"]),
        Route("/exotel/dlt", handling(_register, ExotelSimulator), methods=["POST"]),
        Route("/smtp/mails", handling(_mails, SmtpSimulator), methods=["GET"]),
        Route("/smtp/bounce", handling(_bounce, SmtpSimulator), methods=["POST"]),
        Route("/smtp/unsubscribe", handling(_unsubscribe, SmtpSimulator), methods=["POST"]),
    ]
    return Router(routes, redirect_slashes=False)


async def _object(request: Request) -> dict[str, Any]:
    body = await body_of(request)
    given = orjson.loads(body) if body else {}
    if not isinstance(given, dict):
        raise ControlError("the body is not an object")
    return given


# Every gateway.


def _summary(gateway: Gateway[Any], _: dict[str, Any]) -> dict[str, Any]:
    return gateway.summary()


def _taken(gateway: Gateway[Any], given: dict[str, Any]) -> dict[str, Any]:
    if "recipient" in given:
        found = gateway.ledger.of(str(given["recipient"]))
    elif "reference" in given:
        found = gateway.ledger.by_reference(str(given["reference"]))
    else:
        limit = min(int(given.get("limit", 1_000)), MAX_PAGE)
        found = gateway.ledger.after(int(given.get("after", 0)), limit)
    return {"taken": [_row(each) for each in found], "count": gateway.ledger.count}


def _row(taken: Taken) -> dict[str, Any]:
    return {each.name: getattr(taken, each.name) for each in fields(taken)}


def _doubled(gateway: Gateway[Any], _: dict[str, Any]) -> dict[str, Any]:
    return {"doubled": gateway.ledger.doubled}


def _lost(gateway: Gateway[Any], given: dict[str, Any]) -> dict[str, Any]:
    return {"lost": sorted(gateway.ledger.lost(map(str, given["references"])))}


def _steer(gateway: Gateway[Any], given: dict[str, Any]) -> None:
    gateway.steer(**given)


def _calm(gateway: Gateway[Any], _: dict[str, Any]) -> None:
    gateway.calm()


def _preset(gateway: Gateway[Any], given: dict[str, Any]) -> dict[str, Any]:
    gateway.preset = preset_named(str(given["name"]), pace=given.get("pace"))
    gateway.seed = int(given.get("seed", gateway.seed))
    return asdict(gateway.preset)


def _clock(gateway: Gateway[Any], given: dict[str, Any]) -> dict[str, Any]:
    gateway.clock.advance(float(given.get("advance", 0)))
    return {"now": gateway.clock.now(), "offset": gateway.clock.offset}


async def _settle(gateway: Gateway[Any], given: dict[str, Any]) -> dict[str, Any]:
    await gateway.settled(min(float(given.get("seconds", 30)), 600), hurry=bool(given.get("hurry", False)))
    return gateway.summary()


def _forget(gateway: Gateway[Any], _: dict[str, Any]) -> None:
    gateway.forget()


def _callbacks(gateway: Gateway[Any], given: dict[str, Any]) -> dict[str, object]:
    if "per_second" in given:
        rate = given.pop("per_second")
        gateway.callbacks.per_second = None if rate is None else float(rate)
    for name, url in given.items():
        holder: Any = gateway.webhooks if isinstance(gateway, WhatsAppSimulator) else gateway
        if name not in ("url", "callbacks_to", "missed_calls_to", "inbound_to", "bounces_to") or not hasattr(
            holder, name
        ):
            raise ControlError(f"no such address: {name}")
        setattr(holder, name, None if url is None else str(url))
    return gateway.callbacks.summary()


async def _act(gateway: Gateway[Any], given: dict[str, Any]) -> Any:
    act = str(given.pop("act"))
    if act not in ACTS[type(gateway)]:
        raise ControlError(f"{gateway.name} cannot {act}")
    result = getattr(gateway, act)(**given)
    result = await result if isawaitable(result) else result
    if result is None or isinstance(result, str | int):
        return {"result": result}
    return {"result": list(result) if isinstance(result, tuple) else asdict(result)}


# Single gateways.


def _add_templates(gateway: WhatsAppSimulator, given: dict[str, Any]) -> dict[str, Any]:
    if "lenient" in given:
        gateway.templates.lenient = bool(given["lenient"])
    for row in given.get("templates", ()):
        gateway.templates.add(template_of(row))
    return {"templates": [each.describe() for each in gateway.templates]}


def _shape(gateway: WhatsAppSimulator, given: dict[str, Any]) -> dict[str, Any]:
    webhooks = gateway.webhooks
    disorder = {each.name for each in fields(Disorder)}
    for name, value in given.items():
        if name in disorder:
            setattr(webhooks.disorder, name, value)
        elif name == "shape" and value in ("single", "changes", "values", "mixed"):
            webhooks.shape = value
        elif name == "batch" and 1 <= int(value) <= 1_000:
            webhooks.batch = int(value)
        else:
            raise ControlError(f"no such setting: {name}={value}")
    return {"batch": webhooks.batch, "shape": webhooks.shape, **asdict(webhooks.disorder)}


def _register(gateway: ExotelSimulator, given: dict[str, Any]) -> dict[str, Any]:
    register(gateway, given)
    dlt = gateway.dlt
    return {
        "entities": sorted(dlt.entities),
        "headers": sorted(dlt.headers),
        "templates": [asdict(each) for each in dlt.templates.values()],
        "strict": dlt.strict,
    }


def _mails(gateway: SmtpSimulator, given: dict[str, Any]) -> dict[str, Any]:
    if "message_id" in given:
        mail = gateway.mail(str(given["message_id"]))
        found = [] if mail is None else [mail]
    else:
        found = gateway.mails[-min(int(given.get("limit", 20)), 200) :]
    return {"mails": [_describe(mail) for mail in found]}


def _describe(mail: Mail) -> dict[str, Any]:
    return {
        "id": mail.id,
        "sender": mail.sender,
        "recipients": list(mail.recipients),
        "message_id": mail.message_id,
        "headers": [[name, str(value)] for name, value in mail.message.items()],
        "subject": mail.subject,
        "text": mail.text,
        "html": mail.html,
        "unsubscribe_uris": mail.unsubscribe_uris,
        "one_click": mail.one_click,
        "over_tls": mail.over_tls,
    }


def _mail(gateway: SmtpSimulator, given: dict[str, Any]) -> Mail:
    mail = gateway.mail(str(given["message_id"]))
    if mail is None:
        raise ControlError("no mail with this message_id")
    return mail


def _bounce(gateway: SmtpSimulator, given: dict[str, Any]) -> dict[str, Any]:
    why = str(given.get("why", "550 5.1.1 No such user"))
    report = gateway.bounce(_mail(gateway, given), given.get("recipient"), why)
    return {"report": report.decode()}


async def _unsubscribe(gateway: SmtpSimulator, given: dict[str, Any]) -> dict[str, Any]:
    return {"status": await gateway.unsubscribe(_mail(gateway, given))}


_ROUTES: Final[tuple[tuple[str, str, Answer], ...]] = (
    ("/summary", "GET", _summary),
    ("/taken", "GET", _taken),
    ("/doubled", "GET", _doubled),
    ("/lost", "POST", _lost),
    ("/steer", "POST", _steer),
    ("/steer", "DELETE", _calm),
    ("/preset", "POST", _preset),
    ("/clock", "POST", _clock),
    ("/settle", "POST", _settle),
    ("/forget", "POST", _forget),
    ("/callbacks", "POST", _callbacks),
    ("/do/{act}", "POST", _act),
)


# Also for the configuration file of the command.


def template_of(row: Mapping[str, Any]) -> Template:
    """A WhatsApp template of its fields.

    Raises: `TypeError` for an unknown or missing one.
    """
    return Template(**{**row, "buttons": tuple(row.get("buttons", ()))})


def register(gateway: ExotelSimulator, given: Mapping[str, Any]) -> None:
    """Add entities, headers, templates, and numbers on the Do Not Disturb registry.

    Raises: `SteeringError` for an unknown field, `TypeError` for one of a template.
    """
    dlt = gateway.dlt
    for name, value in given.items():
        match name:
            case "entities":
                dlt.entities.update(value)
            case "headers":
                dlt.headers.update(value)
            case "templates":
                for row in value:
                    dlt.add(DltTemplate(**row))
            case "dnd":
                dlt.dnd.update(value)
            case "without_consent":
                dlt.without_consent.update(value)
            case "strict":
                dlt.strict = bool(value)
            case _:
                raise SteeringError(f"no such field: {name}")
