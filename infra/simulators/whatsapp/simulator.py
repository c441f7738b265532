"""The WhatsApp Cloud API of one business number, on 127.0.0.1.

Sources, also of every figure below: Meta's documentation as of 2026 ("Messages API", "Messaging limits",
"Throughput", "Pair rate limits", "Business-scoped user IDs", "Error codes"), as in the project's facts of the
field, A1 to A5.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from infra.simulators.callbacks import CallbackFailedError, Retries, request_once
from infra.simulators.gateway import Gateway
from infra.simulators.limits import Bucket, Buckets, Unique
from infra.simulators.presets import Fate, Preset
from infra.simulators.serving import BodyTooLargeError, HttpServer, Json, body_of
from infra.simulators.steering import NOTHING_SAID, Behaviour, SteeringError, Via, faulty_answer
from infra.simulators.whatsapp import payloads
from infra.simulators.whatsapp.errors import ERRORS, GraphError, error
from infra.simulators.whatsapp.payloads import Number, Pricing, Update
from infra.simulators.whatsapp.people import BSUID, People, Person
from infra.simulators.whatsapp.templates import Template, Templates, UnfitError
from infra.simulators.whatsapp.webhooks import META_RETRIES, Shape, Webhooks, verification

THROUGHPUT: Final = 80.0
"""Messages a second and number, in and out together; 1,000 after Meta's automatic upgrade."""
PAIR_SECONDS: Final = 6.0
PAIR_BURST: Final = 45
"""One message in 6 seconds to one user, of which 45 may be borrowed."""
MESSAGING_LIMITS: Final = (250, 2_000, 10_000, 100_000, None)
"""Different users in 24 hours outside a service window, for the whole portfolio; None is unlimited."""
DAY: Final = 24 * 3600.0
MAX_TEXT: Final = 4_096
MAX_OPAQUE: Final = 512
"""Characters of `biz_opaque_callback_data` (Meta, "Messages API")."""
MAX_BUTTONS: Final = 3
MAX_TITLE: Final = 20
MANAGEMENT_PER_HOUR: Final = 5_000
"""Calls an hour for an active business account; 200 for others."""
FREE_SERVICE_MESSAGES: Final = 1_000
"""Free-form messages a month and number that cost nothing; further ones cost since 1 October 2026."""
_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}\Z")
_DIGITS: Final = re.compile(r"[0-9 ()\-.]{6,24}\Z")
_COUNTRY_CODE: Final = "91"
_FAILED_FATES: Final = {Fate.UNREACHABLE: 131026, Fate.FAILED: 131049}
_LADDERS: Final[dict[str, tuple[str, ...]]] = {
    "silent": (),
    "sent": ("sent",),
    "delivered": ("sent", "delivered"),
    "read": ("sent", "delivered", "read"),
}


class RefusedError(Exception):
    """A request that is refused with a documented error."""

    def __init__(self, what: GraphError | int, details: str | None = None) -> None:
        self.error = error(what) if isinstance(what, int) else what
        self.details = details
        super().__init__(self.error.title)


@dataclass(frozen=True, slots=True)
class _Message:
    """A send request that was understood."""

    person: Person
    to_phone: bool
    input: str
    kind: str
    opaque: str | None
    category: str
    template: Template | None
    template_name: str
    text: str


@dataclass(frozen=True, slots=True)
class _Due:
    """A status, or something that happens, at its time."""

    make: Callable[[], Update]


class WhatsAppSimulator(Gateway[_Due]):
    """`async with WhatsAppSimulator(webhooks_to=url) as gateway: gateway.url`.

    `webhooks_to`      where webhooks go, on this machine; None keeps them
    `token`, `app_secret`, `verify_token`   what the sender must present, and what signs
    `templates`        what is registered; `lenient` takes every other template for approved
    `throughput`       messages a second, 80; None is no limit
    `pair_rate`        whether one message in 6 s and 45 borrowed are enforced
    `messaging_limit`  different users in 24 h, None is unlimited; what exceeds it fails with `limit_code`
    `all_windows_open` everybody has written to the business within 24 hours: free text goes to all
    `batch`, `shape`, `disorder`   how webhooks are made up, see `webhooks.py`
    `retries`          Meta's backoff, fast by default
    `keep`             messages that the ledger holds
    """

    name = "whatsapp"

    def __init__(
        self,
        *,
        webhooks_to: str | None = None,
        port: int = 0,
        token: str = "sim-whatsapp-token",  # noqa: S107 - a simulator's
        app_secret: str = "test_app_secret",  # noqa: S107
        verify_token: str = "sim-verify-token",  # noqa: S107
        number: Number | None = None,
        templates: Sequence[Template] = (),
        lenient: bool = False,
        throughput: float | None = THROUGHPUT,
        pair_rate: bool = True,
        messaging_limit: int | None = 250,
        limit_code: int = 131048,
        all_windows_open: bool = False,
        batch: int = 1_000,
        shape: Shape = "mixed",
        tick: float = 0.01,
        preset: str | Preset = "clean",
        seed: int = 1,
        retries: Retries = META_RETRIES,
        connections: int = 8,
        keep: int = 100_000,
    ) -> None:
        super().__init__(retries, preset=preset, seed=seed, keep=keep, connections=connections, tick=tick)
        self.token, self.app_secret, self.verify_token = token, app_secret, verify_token
        self.number = number or Number()
        self.templates = Templates(templates, lenient=lenient)
        self.people = People(seed)
        self.webhooks = Webhooks(
            self.callbacks, self.number, webhooks_to, app_secret, seed=seed, batch=batch, shape=shape
        )
        self.limit_code = limit_code
        self.all_windows_open = all_windows_open
        self.set_limits(throughput=throughput, pair_rate=pair_rate, messaging_limit=messaging_limit)
        self._management = Bucket(MANAGEMENT_PER_HOUR / 3600, MANAGEMENT_PER_HOUR)
        self._marketing_off = False
        self._service_messages = 0
        router = Router(
            [
                Route("/{version}/{id}/messages", self._post_message, methods=["POST"]),
                Route("/{version}/{id}/message_templates", self._list_templates, methods=["GET"]),
                Route("/{version}/{id}/contact_book", self._forget_contact, methods=["DELETE"]),
                Route("/{version}/{id}", self._get_number, methods=["GET"]),
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
        """The address instead of https://graph.facebook.com."""
        return self._server.url

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def messages_url(self) -> str:
        """Where messages are posted."""
        return f"{self.url}/v26.0/{self.number.phone_number_id}/messages"

    def steer(self, said: Behaviour | None = None, **how: Any) -> None:
        outcome = how.get("outcome", said.outcome if said else None)
        code = how.get("error", said.error if said else None)
        for each in (code, outcome):
            if each is not None and not (each == outcome and each in _LADDERS) and not _is_code(each):
                raise SteeringError(f"WhatsApp has no {each}")
        super().steer(said, **how)

    def summary(self) -> dict[str, Any]:
        return super().summary() | {"updates": self.webhooks.updates}

    def set_limits(
        self,
        *,
        throughput: float | None = THROUGHPUT,
        pair_rate: bool = True,
        messaging_limit: int | None = 250,
    ) -> None:
        """Other limits, counted anew."""
        self._throughput = Bucket(throughput, throughput or 1.0)
        self._pairs = Buckets(1 / PAIR_SECONDS if pair_rate else None, PAIR_BURST)
        self._unique = Unique(messaging_limit, DAY)

    # People and what they do.

    def person(
        self,
        phone: str | None = None,
        *,
        user_id: str | None = None,
        name: str = "Asha",
        username: str | None = None,
        withheld: bool = False,
    ) -> Person:
        """Make somebody known, with the user id given or the one that follows from the phone."""
        if phone is None and user_id is None:
            raise ValueError("a person has a phone or a user id")
        user_id = user_id or self.people.id_of(phone or "")
        return self.people.add(Person(phone, user_id, name, username, withheld))

    def opens_window(self, who: str | Person, seconds_ago: float = 0.0) -> None:
        """The user wrote, without a webhook: the 24-hour window is open."""
        self.people.find(who).wrote_at = self.clock.now() - seconds_ago

    def inbound_text(self, who: str | Person, text: str, *, to: str | None = None) -> str:
        """The user writes; `to` is the wamid that is answered. Returns the message's wamid."""
        return self._inbound(who, "text", {"body": text}, to)

    def inbound_button(self, who: str | Person, payload: str, text: str, *, to: str | None = None) -> str:
        """The user taps a quick reply of a template."""
        return self._inbound(who, "button", {"payload": payload, "text": text}, to)

    def inbound_interactive(self, who: str | Person, id: str, title: str, *, to: str | None = None) -> str:
        """The user taps a button of an interactive message."""
        content = {"type": "button_reply", "button_reply": {"id": id, "title": title}}
        return self._inbound(who, "interactive", content, to)

    def inbound_contact(self, who: str | Person, phone: str, *, own: bool, to: str | None = None) -> str:
        """The user answers a request for the phone: the own number (`own`), or any forwarded card."""
        card = {
            "name": {"formatted_name": "Asha", "first_name": "Asha"},
            "phones": [{"phone": phone, "wa_id": phone.removeprefix("+"), "type": "CELL"}],
            "origin": "contact_request" if own else "other",
        }
        return self._inbound(who, "contacts", [card], to)

    def change_user_id(self, who: str | Person) -> str:
        """The user's id is made anew; webhook `user_changed_user_id`. Returns the former id."""
        person = self.people.find(who)
        former = self.people.new_id(person)
        self._tell_change(person, "user_changed_user_id", former)
        return former

    def change_number(self, who: str | Person, phone: str) -> str:
        """The user takes another number, and gets another id; webhook `user_changed_number`. Returns the
        former id."""
        person = self.people.find(who)
        self.people.new_phone(person, phone)
        former = self.people.new_id(person)
        self._tell_change(person, "user_changed_number", former)
        return former

    def prefer(self, who: str | Person, value: str) -> None:
        """The user stops (`stop`) or resumes (`resume`) marketing messages."""
        person = self.people.find(who)
        person.stopped_marketing = value == "stop"
        self.tell(payloads.preference(self.clock.now(), person, value))

    # What happens to the account.

    def template_status(
        self, name: str, language: str, event: str, *, reason: str | None = "NONE", **other: Any
    ) -> None:
        """A template's status changes: it is paused, disabled, rejected, ... and the webhook says so."""
        template = self._template(name, language)
        template.status = "APPROVED" if event in ("REINSTATED", "UNARCHIVED") else event
        value: dict[str, Any] = {
            "event": event,
            "message_template_id": template.id,
            "message_template_name": name,
            "message_template_language": language,
            "reason": reason,
            "message_template_category": template.category,
        }
        self.account_value("message_template_status_update", value | other)

    def template_quality(self, name: str, language: str, before: str, now: str) -> None:
        """A template's quality score changes."""
        template = self._template(name, language)
        value = {
            "previous_quality_score": before,
            "new_quality_score": now,
            "message_template_id": template.id,
            "message_template_name": name,
            "message_template_language": language,
        }
        self.account_value("message_template_quality_update", value)

    def account_update(self, event: str, **other: Any) -> None:
        """`account_update`: `ACCOUNT_RESTRICTION` with `restriction_info`, `DISABLED_UPDATE` with
        `ban_info`, ..."""
        self.account_value("account_update", {"event": event, **other})

    def number_quality(self, event: str, limit: str | int) -> None:
        """`phone_number_quality_update`, such as THROUGHPUT_UPGRADE."""
        value = {"display_phone_number": self.number.display, "event": event}
        self.account_value(
            "phone_number_quality_update", value | {"max_daily_conversations_per_business": limit}
        )

    def capability(self, limit: str | int) -> None:
        """`business_capability_update`; the limit is a number, or a TIER_* word."""
        self.account_value("business_capability_update", {"max_daily_conversations_per_business": limit})

    def group_participants(self, group_id: str, phone: str, kind: str = "group_participants_add") -> None:
        """`group_participants_update`."""
        group = {
            "timestamp": str(int(self.clock.now())),
            "group_id": group_id,
            "type": kind,
            "reason": "invite_link",
            "added_participants": [{"wa_id": phone.removeprefix("+")}],
        }
        self.tell(Update("group_participants_update", group, "groups"))

    def value_error(self, code: int) -> None:
        """An error of the account: `errors` in a value without messages and statuses."""
        self.tell(Update("messages", error(code).in_status(), "errors"))

    def account_value(self, field: str, value: dict[str, Any]) -> None:
        """Any account-level change; its entry carries `time`."""
        self.tell(Update(field, value))

    def tell(self, *updates: Update) -> None:
        """Send updates now, in one webhook if they fit."""
        self.webhooks.send(updates, self.clock.now())

    def replay(self, count: int | None = None, *, shuffle: bool = False) -> int:
        """Send the newest webhooks again, byte for byte."""
        return self.webhooks.replay(count, shuffle=shuffle)

    async def verify(self, url: str | None = None, token: str | None = None) -> tuple[int, bool]:
        """Verify the callback URL as Meta does: `(status, whether the challenge came back)`.

        Raises: `CallbackFailedError`.
        """
        challenge = secrets.token_hex(8)
        url = url or self.webhooks.url
        if url is None:
            raise CallbackFailedError("no callback URL")
        query = urlencode(verification(self.verify_token if token is None else token, challenge))
        status, body = await request_once("GET", f"{url}{'&' if '?' in url else '?'}{query}")
        return status, status == 200 and hmac.compare_digest(body, challenge.encode())

    # HTTP.

    async def _post_message(self, request: Request) -> Response:
        asked = self.steering.request()
        opaque = ""
        try:
            self._check_caller(request)
            body = await _json_of(request)
            if body.get("status") == "read":
                return Json({"success": True})
            opaque = str(body.get("biz_opaque_callback_data") or "")[:MAX_OPAQUE]
            return await self._send(self._understand(body), asked)
        except (RefusedError, UnfitError) as refused:
            # Also a request that cannot be understood may be broken off or answered with HTML.
            if (answer := faulty_answer(asked, self._throttled)) is not None:
                self.ledger.faults[str(asked.fault)] += 1
                return answer
            what = refused.error if isinstance(refused, RefusedError) else error(refused.code)
            self.ledger.refuse(what.code, "", opaque)
            return self._refusal(what, refused.details)

    def _check_caller(self, request: Request) -> None:
        header = request.headers.get("authorization")
        if header is None:
            raise RefusedError(0)
        if not hmac.compare_digest(header.encode(), f"Bearer {self.token}".encode()):
            raise RefusedError(190)
        if not re.fullmatch(r"v\d+\.\d+", request.path_params["version"]):
            raise RefusedError(100, "Unknown path components")
        if request.path_params["id"] not in (self.number.phone_number_id, self.number.waba_id):
            raise RefusedError(100, "Object with this ID does not exist or cannot be loaded")

    def _understand(self, body: dict[str, Any]) -> _Message:
        if body.get("messaging_product") != "whatsapp":
            raise RefusedError(100, "The parameter messaging_product is required.")
        if body.get("recipient_type", "individual") != "individual":
            raise RefusedError(131215, "Groups are open to Official Business Accounts only")
        opaque = body.get("biz_opaque_callback_data")
        if opaque is not None and (not isinstance(opaque, str) or len(opaque) > MAX_OPAQUE):
            raise RefusedError(100, f"biz_opaque_callback_data exceeds {MAX_OPAQUE} characters")
        person, to_phone, given = self._recipient(body)
        kind = body.get("type", "text")
        template: Template | None = None
        name = ""
        match kind:
            case "template":
                template, name, category, text = self._fill(body.get("template"), to_phone)
            case "text":
                category, text = "service", _text_of(body.get("text"))
            case "interactive":
                category, text = "service", _interactive_of(body.get("interactive"))
            case _:
                raise RefusedError(131051, f"message type {kind} is not simulated")
        return _Message(person, to_phone, given, kind, opaque, category, template, name, text)

    def _recipient(self, body: dict[str, Any]) -> tuple[Person, bool, str]:
        to, user_id = body.get("to"), body.get("recipient")
        if to is not None:  # wins when both are set
            if not isinstance(to, str):
                raise RefusedError(131009, "to is not a text")
            # Without `+` Meta prepends the sender's country code, whatever the number begins with.
            phone = to if to.startswith("+") else f"+{_COUNTRY_CODE}{to}" if _DIGITS.match(to) else to
            phone = f"+{re.sub('[^0-9]', '', phone)}" if _DIGITS.match(phone[1:]) else phone
            if not _E164.match(phone):
                raise RefusedError(131009, "Parameter value is not valid: to")
            if phone == f"+{self.number.display}":
                raise RefusedError(131021)
            return self.people.by_phone(phone), True, to
        if user_id is None:
            raise RefusedError(131008, "to or recipient is required")
        if not isinstance(user_id, str) or not BSUID.match(user_id):
            raise RefusedError(131009, "Parameter value is not valid: recipient")
        return self.people.by_id(user_id), False, user_id

    def _fill(self, given: object, to_phone: bool) -> tuple[Template | None, str, str, str]:
        if not isinstance(given, dict):
            raise RefusedError(131008, "template is required")
        language = given.get("language")
        code = language.get("code") if isinstance(language, dict) else None
        template = self.templates.sendable(given.get("name"), code)
        category = (template.category if template else "UTILITY").lower()
        if category == "authentication" and not to_phone:
            raise RefusedError(131062)
        if category == "marketing" and self._marketing_off:
            raise RefusedError(131063)
        if template is None:
            return None, str(given["name"]), category, _all_texts(given.get("components"))
        return template, template.name, category, template.fill(given.get("components"))

    async def _send(self, message: _Message, asked: Behaviour) -> Response:
        person = message.person
        names = [message.input, *([person.phone] if person.phone else []), person.user_id]
        said = self._decide(names, message.template_name or None, asked, NOTHING_SAID)
        answer = faulty_answer(said, self._throttled)
        if answer is not None:
            self.ledger.faults[f"{said.fault}+taken" if said.taken else str(said.fault)] += 1
        if answer is not None and not said.taken:
            return await _slowly(answer, said)
        refusal, failure = self._judge(message, said)
        if refusal is not None:
            self.ledger.refuse(refusal.code, message.input, message.opaque or "")
            if failure is not None:  # told twice: in the answer and by webhook
                self._schedule(self._new_id(), message, ("failed",), said, failure)
            return await _slowly(answer or self._refusal(refusal), said)
        wamid = self._take(message, said, failure, answered=answer is None)
        if answer is None:
            answer = self._accepted(message, wamid, said)
        return await _slowly(answer, said, self._latency(wamid))

    def _judge(self, message: _Message, said: Behaviour) -> tuple[GraphError | None, GraphError | None]:
        """`(refusal in the answer, failure by webhook)`, steered errors first."""
        if said.error is not None:
            what = error(int(said.error))
            via = said.via or (Via.STATUS if what.by_status else Via.ANSWER)
            return (what if via is not Via.STATUS else None, what if via is not Via.ANSWER else None)
        now, key = self.clock.now(), message.person.phone or message.person.user_id
        if not self._throughput.take(now):
            return ERRORS[130429], None
        if not self._pairs.take(key, now):
            return ERRORS[131056], None
        if self.all_windows_open or message.person.has_window(now):
            return None, None
        return self._judge_outside(message, key, now)

    def _judge_outside(
        self, message: _Message, key: str, now: float
    ) -> tuple[GraphError | None, GraphError | None]:
        """As `_judge`, outside the service window."""
        if message.kind != "template":
            return None, ERRORS[131047]
        if not self._unique.take(key, now):
            return error(self.limit_code), None
        if message.category == "marketing" and message.person.stopped_marketing:
            return None, ERRORS[131050]
        if message.category == "marketing" and key.startswith(("+1", "US.")):
            return None, ERRORS[131049]  # no marketing to numbers of the United States
        return None, None

    def _take(self, message: _Message, said: Behaviour, failure: GraphError | None, *, answered: bool) -> str:
        wamid = self._new_id()
        person = message.person
        self.ledger.take(
            wamid,
            person.phone or person.user_id,
            message.opaque or "",
            self.clock.now(),
            message.kind,
            template=message.template_name,
            text=message.text,
            answered=answered,
            fields={
                "user_id": person.user_id,
                "input": message.input,
                "category": message.category,
                "language": message.template.language if message.template else "",
            },
        )
        if failure is not None:
            self._schedule(wamid, message, ("failed",), said, failure)
            return wamid
        if person.phone in self.people.former or person.user_id in self.people.former:
            self._schedule(wamid, message, ("failed",), said, ERRORS[131026])
            return wamid
        words, failure = self._ladder(message, said, wamid)
        self._schedule(wamid, message, words, said, failure)
        return wamid

    def _ladder(
        self, message: _Message, said: Behaviour, wamid: str
    ) -> tuple[tuple[str, ...], GraphError | None]:
        if said.outcome is None:
            fate = self._fate(message.person.phone or message.person.user_id, message.opaque or wamid)
            code = _FAILED_FATES.get(fate)
            if code == 131049 and message.category != "marketing":
                code = 131000
            return (("failed",), error(code)) if code else (_LADDERS[fate.value], None)
        if isinstance(said.outcome, int) or said.outcome.isdecimal():
            return ("failed",), error(int(said.outcome))
        return _LADDERS[said.outcome], None

    def _schedule(
        self,
        wamid: str,
        message: _Message,
        words: Sequence[str],
        said: Behaviour,
        failure: GraphError | None = None,
    ) -> None:
        pace = said.pace if said.pace is not None else self.preset.pace
        due = 0.0
        skip_delivered = words[-1:] == ("read",) and self.webhooks.misses()
        priced = False
        for place, word in enumerate(words):
            due += self._vary(pace, wamid, word) if said.pace is None else pace
            if word == "delivered" and skip_delivered:
                continue
            # Pricing comes with `sent` and with one of the later ones.
            pricing = None
            if place < 2 and word != "failed" and not priced:
                pricing = self._pricing(message)
                priced = place == 1
            self.timetable.add(
                _Due(self._status(wamid, message, word, pricing, failure)), due + self.webhooks.late()
            )
        reply = said.reply
        if reply is None and words[-1:] == ("read",):
            reply = self._reply(message.person.phone or message.person.user_id)
        if reply is not None and failure is None:
            self.timetable.add(_Due(self._answer(message.person, reply, wamid)), due + pace)

    def _status(
        self,
        wamid: str,
        message: _Message,
        word: str,
        pricing: Pricing | None,
        failure: GraphError | None,
    ) -> Callable[[], Update]:
        def make() -> Update:
            return payloads.status(
                wamid,
                word,
                self.clock.now(),
                message.person,
                to_phone=message.to_phone,
                opaque=message.opaque,
                pricing=pricing,
                errors=[failure.in_status()] if failure else (),
            )

        return make

    def _answer(self, person: Person, text: str, wamid: str) -> Callable[[], Update]:
        def make() -> Update:
            person.wrote_at = self.clock.now()
            return self._inbound_update(person, "text", {"body": text}, wamid)

        return make

    def _pricing(self, message: _Message) -> Pricing:
        if message.category != "service":
            return Pricing(message.category)
        self._service_messages += 1
        free = self._service_messages <= FREE_SERVICE_MESSAGES
        return Pricing("service", "free_customer_service" if free else "regular", not free)

    def _fall_due(self, due: list[_Due]) -> None:
        self.webhooks.send([each.make() for each in due], self.clock.now())

    def _inbound(self, who: str | Person, kind: str, content: Any, to: str | None) -> str:
        person = self.people.find(who)
        person.wrote_at = self.clock.now()
        self._throughput.take(self.clock.now())  # incoming ones count too, and are never refused
        update = self._inbound_update(person, kind, content, to)
        self.tell(update)
        return str(update.item["id"])

    def _inbound_update(self, person: Person, kind: str, content: Any, to: str | None) -> Update:
        context = {"from": self.number.display, "id": to} if to else None
        return payloads.inbound(self._new_id("IN"), self.clock.now(), person, kind, content, context)

    def _tell_change(self, person: Person, kind: str, former: str) -> None:
        self.tell(
            payloads.identity_change(
                self._new_id("SYS"), self.clock.now(), person, kind, former, "User changed"
            )
        )

    def _template(self, name: str, language: str) -> Template:
        if (template := self.templates.get(name, language)) is None:
            template = Template(name, language, id=700_001 + len(self.templates))
            self.templates.add(template)
        return template

    def _accepted(self, message: _Message, wamid: str, said: Behaviour) -> Response:
        contact: dict[str, Any] = {"input": message.input}
        contact |= (
            {"wa_id": message.person.wa_id} if message.to_phone else {"user_id": message.person.user_id}
        )
        sent: dict[str, Any] = {"id": wamid}
        if message.kind == "template":
            sent["message_status"] = said.message_status or "accepted"
        return Json({"messaging_product": "whatsapp", "contacts": [contact], "messages": [sent]})

    def _refusal(self, what: GraphError, details: str | None = None) -> Response:
        return Json(what.answer(secrets.token_urlsafe(12), details), what.status)

    def _throttled(self) -> Response:
        return self._refusal(ERRORS[130429])

    def _latency(self, wamid: str) -> float:
        return self._vary(self.preset.latency, wamid, "latency")

    def _new_id(self, kind: str = "OUT") -> str:
        return f"wamid.{kind}{secrets.token_hex(12).upper()}"

    async def _get_number(self, request: Request) -> Response:
        try:
            self._check_management(request)
        except RefusedError as refused:
            return self._refusal(refused.error, refused.details)
        known: dict[str, Any] = {
            "whatsapp_business_manager_messaging_limit": _tier(self._unique.limit),
            "display_phone_number": self.number.display,
            "verified_name": "Sangathan",
            "quality_rating": "GREEN",
            "name_status": "APPROVED",
            "throughput": {"level": "STANDARD"},
        }
        asked = request.query_params.get("fields", "display_phone_number,verified_name,quality_rating")
        fields = {field: known[field] for field in asked.split(",") if field in known}
        return Json(fields | {"id": request.path_params["id"]})

    async def _list_templates(self, request: Request) -> Response:
        try:
            self._check_management(request)
        except RefusedError as refused:
            return self._refusal(refused.error, refused.details)
        name = request.query_params.get("name")
        rows = [each.describe() for each in self.templates if name is None or each.name == name]
        return Json({"data": rows, "paging": {"cursors": {"before": "MAZDZD", "after": "MjQZD"}}})

    async def _forget_contact(self, request: Request) -> Response:
        """Take a user out of the contact book: the phone is told no longer."""
        try:
            self._check_management(request)
            user_id = request.query_params.get("bsuid", "")
            if not BSUID.match(user_id):
                raise RefusedError(100, "bsuid is required")
        except RefusedError as refused:
            return self._refusal(refused.error, refused.details)
        person = self.people.by_id(user_id)
        person.withheld = True
        return Json({"success": True})

    def _check_management(self, request: Request) -> None:
        self._check_caller(request)
        if not self._management.take(self.clock.now()):
            raise RefusedError(80007)

    async def _unknown_path(self, scope: Any, receive: Any, send: Any) -> None:
        await self._refusal(error(100), "Unknown path components")(scope, receive, send)

    def switch_marketing(self, *, off: bool) -> None:
        """Switch marketing templates off (131063) or on for the account."""
        self._marketing_off = off

    def release(self, wamid: str, outcome: str = "delivered") -> None:
        """Let statuses come for a message that had none, up to `outcome`; unknown ids do nothing."""
        if (taken := self.ledger.get(wamid)) is None:
            return
        message = _Message(
            self.people.find(taken.recipient),
            taken.recipient.startswith("+"),
            str(taken.fields["input"]),
            taken.kind,
            taken.reference or None,
            str(taken.fields["category"]),
            None,
            taken.template,
            taken.text,
        )
        said = replace(NOTHING_SAID, outcome=outcome, pace=0.0)
        words, failure = self._ladder(message, said, wamid)
        self._schedule(wamid, message, words, said, failure)


async def _slowly(answer: Response, said: Behaviour, otherwise: float = 0.0) -> Response:
    seconds = said.latency if said.latency is not None else otherwise
    if seconds:
        await asyncio.sleep(seconds)
    return answer


async def _json_of(request: Request) -> dict[str, Any]:
    try:
        body = orjson.loads(await body_of(request))
    except orjson.JSONDecodeError as wrong:
        raise RefusedError(100, f"Invalid JSON: {wrong}") from None
    except BodyTooLargeError:
        raise RefusedError(100, "The body is too large") from None
    if not isinstance(body, dict):
        raise RefusedError(100, "The body is not an object")
    return body


def _text_of(given: object) -> str:
    text = given.get("body") if isinstance(given, dict) else None
    if not isinstance(text, str) or not text:
        raise RefusedError(131008, "text.body is required")
    if len(text) > MAX_TEXT:
        raise RefusedError(100, f"Param text['body'] must be at most {MAX_TEXT} characters long.")
    return text


def _interactive_of(given: object) -> str:
    if not isinstance(given, dict):
        raise RefusedError(131008, "interactive is required")
    body = given.get("body")
    text = body.get("text") if isinstance(body, dict) else None
    action = given.get("action")
    if not isinstance(text, str) or not text or not isinstance(action, dict):
        raise RefusedError(131008, "interactive.body.text and interactive.action are required")
    match given.get("type"):
        case "contact_request":
            if action.get("name") != "request_contact_info":
                raise RefusedError(131009, "interactive.action.name is not request_contact_info")
        case "button":
            buttons = action.get("buttons")
            if not isinstance(buttons, list) or not 1 <= len(buttons) <= MAX_BUTTONS:
                raise RefusedError(131009, f"a message has 1 to {MAX_BUTTONS} buttons")
            for button in buttons:
                _check_reply_button(button)
        case kind:
            raise RefusedError(131009, f"interactive type {kind} is not simulated")
    return text


def _check_reply_button(button: object) -> None:
    reply = button.get("reply") if isinstance(button, dict) else None
    title = reply.get("title") if isinstance(reply, dict) else None
    if not isinstance(reply, dict) or not isinstance(title, str) or not reply.get("id"):
        raise RefusedError(131008, "a button needs reply.id and reply.title")
    if not 1 <= len(title) <= MAX_TITLE:
        raise RefusedError(131009, f"Button title length invalid. Min length: 1, Max length: {MAX_TITLE}")


def _all_texts(components: object) -> str:
    """Texts of a template that is not registered, for the ledger."""
    if not isinstance(components, list):
        return ""
    parameters = [
        parameter
        for part in components
        if isinstance(part, dict) and isinstance(part.get("parameters"), list)
        for parameter in part["parameters"]
        if isinstance(parameter, dict)
    ]
    return " | ".join(str(each["text"]) for each in parameters if isinstance(each.get("text"), str))


def _is_code(said: int | str) -> bool:
    if not str(said).isdecimal():
        return False
    try:
        error(int(said))
    except KeyError:
        return False
    return True


def _tier(limit: int | None) -> str:
    if limit is None:
        return "TIER_UNLIMITED"
    return f"TIER_{limit // 1000}K" if limit >= 1000 else f"TIER_{limit}"
