"""Exotel's SMS API, on 127.0.0.1: send, bulk, poll, callbacks, missed calls, inbound SMS.

`contract.py` names the sources. Where two official pages differ, both ways are here: JSON and form bodies of
`bulksend`, its two answers, and two numbers for one status.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, urlencode

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from infra.simulators.callbacks import Callback, Retries
from infra.simulators.exotel.contract import (
    ANSWER_WITHIN,
    BULK_PER_MINUTE,
    GET_PER_MINUTE,
    HOURS,
    IN_FLIGHT,
    MAX_BODY_CHARACTERS,
    MAX_BULK,
    OUTCOMES,
    PER_MINUTE,
    RETRY_AFTER,
    SMS_TYPES,
    Codes,
    Refusal,
    answer,
    code_of,
    refusal,
    status_of,
)
from infra.simulators.exotel.dlt import Dlt, DltTemplate
from infra.simulators.exotel.text import is_plain, units
from infra.simulators.gateway import Gateway
from infra.simulators.limits import Window
from infra.simulators.presets import Fate, Preset
from infra.simulators.serving import HttpServer, body_of
from infra.simulators.steering import NOTHING_SAID, Behaviour, SteeringError, faulty_answer

EXOTEL_RETRIES: Final = Retries((0.1, 0.2), timeout=ANSWER_WITHIN, accepted=range(200, 300))
"""Two more attempts, fast; Exotel's are 30 s and 2 minutes later."""
NEVER: Final = "1970-01-01 05:30:00"
"""`DateSent` of what was not sent: the epoch in India."""
_INDEXED: Final = re.compile(r"(?:Messages|sms)\[(\d{1,4})\]\[(\w{1,40})\]\Z")
_FATES: Final = {
    Fate.READ: "DELIVERED_TO_HANDSET",
    Fate.DELIVERED: "DELIVERED_TO_HANDSET",
    Fate.UNREACHABLE: "FAILED_INVALID_NUMBER",
    Fate.FAILED: "FAILED_UNREACHABLE",
    Fate.SILENT: "silent",
}
BulkAnswer = Literal["list", "object", "v2"]


@dataclass(slots=True)
class _Sms:
    """A message that was taken, as it is polled."""

    number: int
    sid: str
    sender: str
    to: str
    recipient: str
    body: str
    units: int
    custom: str | None
    callback: str | None
    created: str
    updated: str
    sent: str | None = None
    status: str = "queued"
    detailed: str = "PENDING_TO_OPERATOR"


@dataclass(frozen=True, slots=True)
class _Step:
    """A status that a message reaches; `reply` is an SMS from its recipient instead."""

    sms: _Sms
    status: str
    detailed: str
    tell: bool
    reply: str | None = None


class ExotelSimulator(Gateway[_Step]):
    """`async with ExotelSimulator(callbacks_to=url) as gateway: gateway.url`.

    `callbacks_to`     default status callback, if a message has none; on this machine, as every callback
    `missed_calls_to`, `inbound_to`   where missed calls and inbound SMS are told
    `account_sid`, `key`, `token`     what the sender must present
    `entities`, `headers`, `templates`   what is registered with DLT; `strict` False lets every text pass
    `dlt_by`           whether an unknown header, entity or template is refused in the answer or fails later
    `per_minute`, `bulk_per_minute`, `get_per_minute`   requests; None is no limit
    `codes`            which page's `DetailedStatusCode`; `both` by turns
    `tell`             callbacks for the `final` status only, or for `all`
    `bulk_answer`      shape of a bulk answer; by default `v2` for a JSON body, else `list`
    `enforce_hours`    whether promotional SMS outside 10:00 to 21:00 in India fail with 651
    """

    name = "exotel"

    def __init__(
        self,
        *,
        callbacks_to: str | None = None,
        missed_calls_to: str | None = None,
        inbound_to: str | None = None,
        port: int = 0,
        account_sid: str = "sangathan1",
        key: str = "sim-exotel-key",
        token: str = "sim-exotel-token",  # noqa: S107 - a simulator's
        number: str = "+911140000001",
        entities: Sequence[str] = ("1101000000000000001",),
        headers: Sequence[str] = ("SNGTHN",),
        templates: Sequence[DltTemplate] = (),
        strict: bool = True,
        dlt_by: Literal["answer", "status"] = "answer",
        per_minute: int | None = PER_MINUTE,
        bulk_per_minute: int | None = BULK_PER_MINUTE,
        get_per_minute: int | None = GET_PER_MINUTE,
        codes: Codes = "both",
        tell: Literal["final", "all"] = "final",
        bulk_answer: BulkAnswer | None = None,
        enforce_hours: bool = False,
        tick: float = 0.01,
        preset: str | Preset = "clean",
        seed: int = 1,
        retries: Retries = EXOTEL_RETRIES,
        connections: int = 8,
        keep: int = 100_000,
    ) -> None:
        super().__init__(retries, preset=preset, seed=seed, keep=keep, connections=connections, tick=tick)
        self.callbacks_to, self.missed_calls_to, self.inbound_to = callbacks_to, missed_calls_to, inbound_to
        self.account_sid, self.key, self.token, self.number = account_sid, key, token, number
        self.dlt = Dlt(entities, headers, templates, strict=strict)
        self.dlt_by, self.codes, self.tell, self.bulk_answer = dlt_by, codes, tell, bulk_answer
        self.enforce_hours = enforce_hours
        self.set_limits(per_minute=per_minute, bulk_per_minute=bulk_per_minute, get_per_minute=get_per_minute)
        self._keep = keep
        self._held: OrderedDict[str, _Sms] = OrderedDict()
        base = "/{version}/Accounts/{sid}"
        router = Router(
            [
                Route(f"{base}/Sms/send{{ending}}", self._post_send, methods=["POST"]),
                Route(f"{base}/Sms/bulksend{{ending}}", self._post_bulk, methods=["POST"]),
                Route(f"{base}/Sms/send", self._post_send, methods=["POST"]),
                Route(f"{base}/Sms/bulksend", self._post_bulk, methods=["POST"]),
                Route(f"{base}/SMS/Messages/{{sms}}", self._get_message, methods=["GET"]),
            ],
            redirect_slashes=False,
            default=self._unknown_path,
        )
        self._server = HttpServer(router, port)

    # Running.

    async def _listen(self) -> None:
        await self._server.__aenter__()

    async def _close(self) -> None:
        await self._server.__aexit__(None, None, None)

    @property
    def url(self) -> str:
        """The address instead of https://api.in.exotel.com."""
        return self._server.url

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def send_url(self) -> str:
        return f"{self.url}/v1/Accounts/{self.account_sid}/Sms/send.json"

    @property
    def bulk_url(self) -> str:
        return f"{self.url}/v1/Accounts/{self.account_sid}/Sms/bulksend.json"

    def message_url(self, sid: str) -> str:
        """Where a message is polled."""
        return f"{self.url}/v1/Accounts/{self.account_sid}/SMS/Messages/{sid}.json"

    def set_limits(
        self,
        *,
        per_minute: int | None = PER_MINUTE,
        bulk_per_minute: int | None = BULK_PER_MINUTE,
        get_per_minute: int | None = GET_PER_MINUTE,
    ) -> None:
        """Other limits, counted anew."""
        self._sends = Window(per_minute)
        self._bulks = Window(bulk_per_minute)
        self._gets = Window(get_per_minute)

    def steer(self, said: Behaviour | None = None, **how: Any) -> None:
        outcome = how.get("outcome", said.outcome if said else None)
        if outcome is not None and outcome != "silent" and outcome not in OUTCOMES:
            raise SteeringError(f"Exotel has no {outcome}")
        if (code := how.get("error", said.error if said else None)) is not None:
            try:
                refusal(code)
            except KeyError:
                raise SteeringError(f"Exotel has no {code}") from None
        super().steer(said, **how)

    # What people do.

    def missed_call(
        self,
        caller: str,
        *,
        to: str | None = None,
        method: Literal["GET", "POST"] = "GET",
        national: bool = False,
        url: str | None = None,
    ) -> str:
        """Somebody calls the number and hangs up: the Passthru applet tells it. Returns the CallSid.

        `national` writes numbers as `09876543210`, as older flows do. A caller without a number is `""`.
        """
        called = to or self.number
        now = self._date()
        sid = secrets.token_hex(16)
        source, target = (_national(caller), _national(called)) if national else (caller, called)
        query = {
            "CallSid": sid,
            "CallFrom": source,
            "CallTo": target,
            "Direction": "incoming",
            "Created": now,
            "DialCallDuration": "0",
            "StartTime": now,
            "EndTime": NEVER,
            "CallType": "call-attempt",
            "flow_id": "100001",
            "tenant_id": "1001",
            "From": source,
            "To": target,
            "CurrentTime": now,
        }
        self._tell(url or self.missed_calls_to, query, method, "missed_call")
        return sid

    def inbound_sms(
        self,
        sender: str,
        text: str,
        *,
        to: str | None = None,
        method: Literal["GET", "POST"] = "POST",
        url: str | None = None,
    ) -> str:
        """Somebody writes to the number. Returns the SmsSid. `GET` is the way of the older applet."""
        sid = secrets.token_hex(16)
        fields = {"SmsSid": sid, "From": sender, "To": to or self.number}
        if method == "GET":
            fields |= {"Date": self._date(), "Body": text}
        else:
            created = self.clock.in_india().isoformat(timespec="seconds")
            fields |= {"Body": text, "DateCreated": created, "AccountSid": self.account_sid}
        self._tell(url or self.inbound_to, fields, method, "inbound")
        return sid

    def callback(self, sid: str, detailed: str, *, url: str | None = None, **other: str) -> None:
        """Send a status callback now, whatever the message's state, also for an unknown id."""
        sms = self._held.get(sid)
        fields = self._fields(sms, status_of(detailed), detailed) if sms else {"SmsSid": sid, "To": ""}
        if sms is None:
            fields |= {"Status": status_of(detailed), "DetailedStatus": detailed}
            fields |= {"DetailedStatusCode": str(code_of(detailed, self.codes, 0)), "SmsUnits": "1"}
            fields["DateSent"] = self._date()
        target = url or (sms.callback if sms else None) or self.callbacks_to
        self._tell(target, fields | other, "POST", "status")

    def release(self, sid: str, outcome: str = "DELIVERED_TO_HANDSET", *, tell: bool = True) -> None:
        """Let a message reach its last status now; unknown ids do nothing."""
        if (sms := self._held.get(sid)) is not None:
            self._fall_due([_Step(sms, status_of(outcome), outcome, tell)])

    # HTTP.

    async def _post_send(self, request: Request) -> Response:
        return await self._handle(request, self._sends, bulk=False)

    async def _post_bulk(self, request: Request) -> Response:
        return await self._handle(request, self._bulks, bulk=True)

    async def _handle(self, request: Request, window: Window, *, bulk: bool) -> Response:
        as_xml = not request.url.path.endswith(".json") and request.path_params["version"] == "v1"
        asked = self.steering.request()
        refused = self._check_caller(request)
        if refused is None and not window.take(self.clock.now()):
            self.ledger.refuse("RATE_LIMIT_EXCEEDED")
            return self._throttled(window, as_xml=as_xml)
        if refused is not None:
            self.ledger.refuse(refused.code)
            return _refused(refused, as_xml=as_xml)
        is_json = request.headers.get("content-type", "").startswith("application/json")
        rows, wrong = _rows(await body_of(request), is_json=is_json, bulk=bulk)
        if wrong is not None:
            self.ledger.refuse(wrong.code)
            return _refused(wrong, as_xml=as_xml)
        version = request.path_params["version"]
        shape = self.bulk_answer or ("v2" if is_json or version == "v2" else "list")
        return await self._send(rows, asked, shape if bulk or len(rows) > 1 else None, as_xml=as_xml)

    async def _send(
        self,
        rows: Sequence[dict[str, str]],
        asked: Behaviour,
        shape: BulkAnswer | None,
        *,
        as_xml: bool,
    ) -> Response:
        """Judge and take each message; one fault breaks the whole request."""
        judged = [self._judge(row, asked) for row in rows]
        broken = next((said for said, _ in judged if said.fault), None)
        throttled = partial(self._throttled, self._sends, as_xml=as_xml)
        faulty = faulty_answer(broken, throttled) if broken else None
        if broken is not None:
            self.ledger.faults[f"{broken.fault}+taken" if broken.taken else str(broken.fault)] += 1
        results: list[_Sms | Refusal] = []
        for row, (said, refused) in zip(rows, judged, strict=True):
            if refused is not None:
                self.ledger.refuse(refused.code, row.get("To", ""), row.get("CustomField", ""))
                results.append(refused)
            elif broken is None or broken.taken:
                results.append(self._take(row, said, answered=faulty is None))
        latency = max((said.latency or 0.0 for said, _ in judged), default=0.0)
        latency = latency or self._vary(self.preset.latency, rows[0].get("To", ""), str(self.ledger.count))
        if latency:
            await asyncio.sleep(latency)
        return faulty if faulty is not None else self._answer(rows, results, shape, as_xml=as_xml)

    def _answer(
        self,
        rows: Sequence[dict[str, str]],
        results: Sequence[_Sms | Refusal],
        shape: BulkAnswer | None,
        *,
        as_xml: bool,
    ) -> Response:
        if shape is None:
            (result,) = results
            if isinstance(result, Refusal):
                return _refused(result, as_xml=as_xml)
            return answer({"SMSMessage": self._describe(result)}, 200, as_xml=as_xml)
        if shape == "v2":
            parts = [
                {"To": row["To"], "Status": "failed", "StatusCode": result.status, "Message": result.message}
                if isinstance(result, Refusal)
                else {"Sid": result.sid, "To": result.to, "Status": result.status, "StatusCode": 202}
                for row, result in zip(rows, results, strict=True)
            ]
            body = {"request_id": secrets.token_hex(16), "http_code": 202, "response": {"sms": parts}}
            return answer(body, 202, as_xml=False)
        bodies = [
            result.body() if isinstance(result, Refusal) else {"SMSMessage": self._describe(result)}
            for result in results
        ]
        status = 207 if any(isinstance(result, Refusal) for result in results) else 200
        if shape == "object" and not as_xml:
            return answer(
                {"SMSMessage": [next(iter(each.values())) for each in bodies]}, status, as_xml=False
            )
        return answer(bodies, status, as_xml=as_xml)

    def _judge(self, row: dict[str, str], asked: Behaviour) -> tuple[Behaviour, Refusal | None]:
        recipient = e164(row.get("To", ""))
        template_id = row.get("DltTemplateId") or None
        names = [recipient, row.get("To", "")] if recipient else [row.get("To", "")]
        said = self._decide(names, template_id, asked, NOTHING_SAID)
        if said.error is not None:
            return said, refusal(said.error)
        return said, self._check(row, recipient)

    def _check(self, row: dict[str, str], recipient: str | None) -> Refusal | None:
        for field in ("From", "To", "DltEntityId"):
            if not row.get(field):
                return _naming(refusal("MISSING_PARAMETER"), field)
        body = row.get("Body", "")
        wrong: Refusal | None = None
        if not body:
            wrong = refusal("EMPTY_BODY")
        elif len(body) > MAX_BODY_CHARACTERS:
            wrong = refusal("MESSAGE_TOO_LONG")
        elif recipient is None:
            wrong = Refusal(400, "INVALID_PARAMETER", "Invalid 'To' number format. Expected E.164 format.")
        elif row.get("SmsType") and row["SmsType"] not in SMS_TYPES:
            wrong = _naming(refusal("INVALID_PARAMETER"), "SmsType")
        elif row.get("EncodingType", "plain") not in ("plain", "unicode"):
            wrong = _naming(refusal("INVALID_PARAMETER"), "EncodingType")
        elif row.get("EncodingType") == "plain" and not is_plain(body):
            wrong = refusal("ENCODING_MISMATCH")
        elif row.get("Priority", "normal") not in ("normal", "high"):
            wrong = _naming(refusal("INVALID_PARAMETER"), "Priority")
        elif self.dlt_by == "answer" and (code := self._unregistered(row)):
            wrong = refusal(code)
        return wrong

    def _unregistered(self, row: dict[str, str]) -> str | None:
        template_id = row.get("DltTemplateId") or None
        return self.dlt.check(entity=row["DltEntityId"], header=row["From"], template_id=template_id)

    def _take(self, row: dict[str, str], said: Behaviour, *, answered: bool) -> _Sms:
        recipient = e164(row["To"]) or row["To"]
        now = self._date()
        sid = secrets.token_hex(16)
        custom = row.get("CustomField")
        sms = _Sms(
            number=self.ledger.count,
            sid=sid,
            sender=row["From"],
            to=row["To"],
            recipient=recipient,
            body=row["Body"],
            units=units(row["Body"]),
            custom=custom,
            callback=row.get("StatusCallback") or self.callbacks_to,
            created=now,
            updated=now,
        )
        self._held[sid] = sms
        while len(self._held) > self._keep:
            self._held.popitem(last=False)
        self.ledger.take(
            sid,
            recipient,
            custom or "",
            self.clock.now(),
            "sms",
            template=row.get("DltTemplateId", ""),
            text=sms.body,
            answered=answered,
            fields={
                "sender": sms.sender,
                "entity": row.get("DltEntityId", ""),
                "type": row.get("SmsType", ""),
                "priority": row.get("Priority", "normal"),
                "encoding": row.get("EncodingType", ""),
                "units": sms.units,
                "callback": sms.callback or "",
            },
        )
        self._schedule(sms, self._outcome(sms, row, said), said)
        return sms

    def _outcome(self, sms: _Sms, row: dict[str, str], said: Behaviour) -> str:
        if said.outcome is not None:
            return str(said.outcome)
        blocked = None
        if self.dlt_by == "status" and (code := self._unregistered(row)):
            blocked = {
                "INVALID_SENDER": "FAILED_INVALID_SENDER",
                "INVALID_DLT_ENTITY": "FAILED_DLT_ENTITY",
            }.get(code, "FAILED_DLT_TEMPLATE")
        blocked = blocked or self.dlt.scrub(
            header=sms.sender, template_id=row.get("DltTemplateId") or None, text=sms.body
        )
        kind = row.get("SmsType", "")
        if blocked is None and kind == "promotional" and sms.recipient in self.dlt.dnd:
            blocked = "FAILED_DND"
        if blocked is None and kind != "transactional" and sms.recipient in self.dlt.without_consent:
            blocked = "FAILED_DLT_CONSENT"
        if blocked is None and self.enforce_hours and kind in SMS_TYPES[1:]:
            hour = self.clock.in_india().hour
            blocked = None if HOURS[0] <= hour < HOURS[1] else "EC_INVALID_PROMO_TIME"
        return blocked or _FATES[self._fate(sms.recipient, sms.custom or sms.sid)]

    def _schedule(self, sms: _Sms, outcome: str, said: Behaviour) -> None:
        ladder = [(word, IN_FLIGHT[word]) for word in ("sending", "submitted")]
        if outcome == "DELIVERED_TO_HANDSET":
            ladder.append(("sent", "DELIVERED_TO_OPERATOR"))
        if outcome != "silent":
            ladder.append((status_of(outcome), outcome))
        pace = self.preset.pace if said.pace is None else said.pace
        due = 0.0
        for place, (status, detailed) in enumerate(ladder):
            last = place == len(ladder) - 1 and outcome != "silent"
            if not last and self.tell == "final" and status != "submitted":
                continue  # nobody is told, and a poll a moment later sees the next one
            due += pace if said.pace is not None else self._vary(pace, sms.sid, status)
            tell = said.callback is not False and (last or self.tell == "all")
            self.timetable.add(_Step(sms, status, detailed, tell), due)
        reply = said.reply
        if reply is None and outcome == "DELIVERED_TO_HANDSET":
            reply = self._reply(sms.recipient)
        if reply is not None:
            self.timetable.add(_Step(sms, "", "", tell=False, reply=reply), due + pace)

    def _fall_due(self, due: list[_Step]) -> None:
        now = self._date()
        for step in due:
            if step.reply is not None:
                self.inbound_sms(step.sms.recipient, step.reply)
                continue
            sms = step.sms
            sms.status, sms.detailed, sms.updated = step.status, step.detailed, now
            if step.status in ("sent", "delivered") and sms.sent is None:
                sms.sent = now
            if step.tell:
                self._tell(sms.callback, self._fields(sms, step.status, step.detailed), "POST", "status")

    def _fields(self, sms: _Sms, status: str, detailed: str) -> dict[str, str]:
        fields = {
            "SmsSid": sms.sid,
            "To": sms.to,
            "Status": status,
            "DetailedStatus": detailed,
            "DetailedStatusCode": str(code_of(detailed, self.codes, sms.number)),
            "SmsUnits": str(sms.units),
            "DateSent": sms.sent or NEVER,
        }
        if sms.custom is not None:
            fields["CustomField"] = sms.custom
        return fields

    def _tell(self, url: str | None, fields: dict[str, str], method: str, label: str) -> None:
        if url is None:
            return
        form = urlencode(fields)
        if method == "GET":
            self.callbacks.send(Callback("GET", f"{url}{'&' if '?' in url else '?'}{form}", (), label=label))
            return
        headers = [("content-type", "application/x-www-form-urlencoded")]
        self.callbacks.send(Callback("POST", url, headers, form.encode(), label=label))

    def _describe(self, sms: _Sms) -> dict[str, Any]:
        return {
            "Sid": sms.sid,
            "AccountSid": self.account_sid,
            "From": sms.sender,
            "To": sms.to,
            "DateCreated": sms.created,
            "DateUpdated": sms.updated,
            "DateSent": sms.sent,
            "Body": sms.body,
            "Direction": "outbound-api",
            "Uri": f"/v1/Accounts/{self.account_sid}/SMS/Messages/{sms.sid}.json",
            "ApiVersion": None,
            "Price": None,
            "Status": sms.status,
            "SmsUnits": sms.units,
            "DetailedStatusCode": code_of(sms.detailed, self.codes, sms.number),
            "DetailedStatus": sms.detailed,
        }

    async def _get_message(self, request: Request) -> Response:
        asked = self.steering.request()
        sid = request.path_params["sms"]
        as_xml = not sid.endswith(".json")
        if (refused := self._check_caller(request)) is not None:
            return _refused(refused, as_xml=as_xml)
        if not self._gets.take(self.clock.now()):
            return self._throttled(self._gets, as_xml=as_xml)
        if asked.latency:
            await asyncio.sleep(asked.latency)
        if (faulty := faulty_answer(asked, partial(self._throttled, self._gets, as_xml=as_xml))) is not None:
            return faulty
        if asked.error is not None:
            return _refused(refusal(asked.error), as_xml=as_xml)
        sms = self._held.get(sid.removesuffix(".json"))
        if sms is None:
            return _refused(refusal("NOT_FOUND"), as_xml=as_xml)
        return answer({"SMSMessage": self._describe(sms)}, 200, as_xml=as_xml)

    def _check_caller(self, request: Request) -> Refusal | None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        wanted = base64.b64encode(f"{self.key}:{self.token}".encode())
        if scheme.lower() != "basic" or not hmac.compare_digest(given.encode(), wanted):
            return refusal("UNAUTHORIZED")
        if request.path_params["sid"] != self.account_sid:
            return refusal("INVALID_ACCOUNT_SID")
        if request.path_params.get("ending", ".json") != ".json":
            return refusal("NOT_FOUND")
        return None

    def _throttled(self, window: Window, *, as_xml: bool) -> Response:
        response = _refused(refusal("RATE_LIMIT_EXCEEDED"), as_xml=as_xml)
        response.headers["Retry-After"] = str(RETRY_AFTER)
        response.headers["X-RateLimit-Limit"] = str(window.limit or PER_MINUTE)
        response.headers["X-RateLimit-Remaining"] = str(window.left)
        response.headers["X-RateLimit-Reset"] = str(int(window.resets_at))
        return response

    async def _unknown_path(self, scope: Any, receive: Any, send: Any) -> None:
        await _refused(refusal("NOT_FOUND"), as_xml=False)(scope, receive, send)

    def _date(self) -> str:
        now: datetime = self.clock.in_india()
        return now.strftime("%Y-%m-%d %H:%M:%S")


def e164(given: str) -> str | None:
    """A number as Exotel understands it, with `+`; one without a country is Indian. None if it is no
    number."""
    digits = re.sub(r"[ \-()]", "", given)
    if re.fullmatch(r"\+[1-9][0-9]{6,14}", digits):
        return digits
    if re.fullmatch(r"0?[6-9][0-9]{9}", digits):
        return f"+91{digits[-10:]}"
    return f"+{digits}" if re.fullmatch(r"91[6-9][0-9]{9}", digits) else None


def _national(number: str) -> str:
    return f"0{number[3:]}" if number.startswith("+91") else number


def _refused(what: Refusal, *, as_xml: bool) -> Response:
    return answer(what.body(), what.status, as_xml=as_xml)


def _naming(what: Refusal, parameter: str) -> Refusal:
    return Refusal(what.status, what.code, what.message.format(parameter))


def _rows(body: bytes, *, is_json: bool, bulk: bool) -> tuple[list[dict[str, str]], Refusal | None]:
    """The messages of a request: one, several with the same text, or several with texts of their own."""
    try:
        rows = _json_rows(orjson.loads(body)) if is_json else _form_rows(body.decode(), bulk=bulk)
    except (ValueError, TypeError):
        return [], _naming(refusal("INVALID_PARAMETER"), "Messages" if bulk else "body")
    if not rows:
        return [], _naming(refusal("MISSING_PARAMETER"), "Messages" if bulk else "To")
    if len(rows) > MAX_BULK:
        return [], refusal("TOO_MANY_MESSAGES")
    return rows, None


def _json_rows(given: Any) -> list[dict[str, str]]:
    rows = given.get("sms") if isinstance(given, dict) else None
    if not isinstance(rows, list):
        raise ValueError("no list of messages")
    outer = {name: str(value) for name, value in given.items() if name != "sms"}
    return [each for row in rows for each in _each_number(outer, row)]


def _form_rows(body: str, *, bulk: bool) -> list[dict[str, str]]:
    pairs = parse_qsl(body, keep_blank_values=True, strict_parsing=bool(body), max_num_fields=5_000)
    if not bulk:
        numbers = [value for name, value in pairs if name in ("To", "To[]") or name.startswith("To[")]
        row: dict[str, Any] = dict(pairs)
        return _each_number({}, row | {"To": numbers if len(numbers) > 1 else (numbers or [""])[0]})
    messages: dict[int, dict[str, str]] = {}
    outer: dict[str, str] = {}
    for name, value in pairs:
        if match := _INDEXED.match(name):
            messages.setdefault(int(match[1]), {})[match[2]] = value
        elif name == "Messages":
            for place, row in enumerate(orjson.loads(value)):
                messages[place] = {key: str(each) for key, each in dict(row).items()}
        else:
            outer[name] = value
    return [each for _, row in sorted(messages.items()) for each in _each_number(outer, row)]


def _each_number(outer: dict[str, str], row: dict[str, Any]) -> list[dict[str, str]]:
    to = row.get("To", outer.get("To", ""))
    numbers = to if isinstance(to, list) else str(to).split(",")
    texts = {name: str(value) for name, value in row.items() if name != "To"}
    return [outer | texts | {"To": str(number).strip()} for number in numbers]
