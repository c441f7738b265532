"""The sender for SMS: Exotel's API over HTTP."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import smsutil

from services.notifications.channels.exotel.bulk import bulk_outcomes, bulk_request
from services.notifications.channels.exotel.callbacks import parse, report_of
from services.notifications.channels.exotel.errors import failure, reached, refusal
from services.notifications.core.channel import Message
from services.notifications.core.domain import Meaning, OutcomeClass, SendOutcome
from services.notifications.core.metrics import NotificationMetrics
from services.notifications.core.parsing import identifier, mapping, word
from services.notifications.core.providers import (
    NO_ANSWER,
    UNREACHABLE,
    UNREADABLE,
    Answer,
    NoAnswerError,
    NotTakenError,
    ProviderClient,
    each,
    outcome_of,
)
from services.notifications.core.updates import Asked, Callback, Delivery, Report, Update
from services.notifications.settings import NotificationsSettings
from services.shared.contracts.vocabulary import Purpose
from services.shared.errors import TransientError

CONCURRENCY: Final = 20
MAX_BODY: Final = 2000
"""Characters of a text (Exotel, "Send SMS")."""
_ALONE_INSTEAD: Final = (400, 404, 405, 413, 415, 422)
"""Statuses of a refused call that another kind of call may not meet."""
_IN_A_PATH: Final = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
PROMOTIONAL: Final = "promotional"
OPTED_IN: Final = "transactional_opt_in"
TYPES: Final = {
    "transactional": "transactional",
    "service_implicit": "transactional",
    "service_explicit": OPTED_IN,
    "promotional": PROMOTIONAL,
}
"""Exotel's `SmsType` of each type of a DLT template (Exotel, "Send SMS": implicit service messages go as
transactional, explicit ones as opted in)."""


class ExotelSender:
    """Sends several messages of one template by one call, and others each by its own. Exotel gives
    `CustomField`, our reference, back in each callback; it calls back twice at most, so messages are polled
    too."""

    name: Final = "exotel"
    polls: Final = True
    approved_only: Final = True

    def __init__(self, settings: NotificationsSettings, metrics: NotificationMetrics) -> None:
        self.account = settings.exotel_account_sid
        self.number = settings.exotel_header
        self._entity = settings.dlt_entity_id
        self._callback = settings.exotel_callback_url.get_secret_value()
        self._path = f"/v1/Accounts/{self.account}"
        self._bulk_from = settings.exotel_bulk_from
        self._metrics = metrics
        secrets = settings.exotel_api_key.get_secret_value(), settings.exotel_api_token.get_secret_value()
        self._client = ProviderClient(settings.exotel_url, concurrency=CONCURRENCY, auth=secrets)

    async def send(self, messages: Sequence[Message]) -> Sequence[SendOutcome]:
        alike: dict[tuple[str, ...], list[Message]] = defaultdict(list)
        for message in messages:
            alike[_kind_of(message)].append(message)
        several = [group for group in alike.values() if 0 < self._bulk_from <= len(group)]
        together = {message.id for group in several for message in group}
        alone = [message for message in messages if message.id not in together]
        by_id: dict[str, SendOutcome] = {}
        answered = await asyncio.gather(self._each(alone), *(self._send_several(group) for group in several))
        for group, outcomes in zip([alone, *several], answered, strict=True):
            by_id.update((message.id, each_) for message, each_ in zip(group, outcomes, strict=True))
        return [by_id[message.id] for message in messages]

    async def _each(self, messages: Sequence[Message]) -> Sequence[SendOutcome]:
        return await each(messages, self.form_of, self._send)

    async def _send_several(self, messages: Sequence[Message]) -> Sequence[SendOutcome]:
        """By one call. If Exotel refuses the call as a whole, none has been taken: they go one by one."""
        try:
            forms = [self.form_of(message) for message in messages]
        except ValueError:  # one cannot be sent, and the others shall not wait for it
            return await self._each(messages)
        path = f"{self._path}/Sms/bulksend.json"
        try:
            answer = await self._client.call("POST", path, json=bulk_request(forms))
        except NotTakenError:
            return [SendOutcome(OutcomeClass.TRANSIENT, UNREACHABLE, Meaning.RETRY)] * len(messages)
        except NoAnswerError:
            return [SendOutcome(OutcomeClass.UNKNOWN, NO_ANSWER)] * len(messages)
        if answer.status in _ALONE_INSTEAD and mapping(mapping(answer.data).get("RestException")):
            return await self._each(messages)
        return bulk_outcomes(answer, [form["To"] for form in forms], outcome)

    def form_of(self, message: Message) -> dict[str, str]:
        """Raises: `ValueError` for a text that is too long."""
        if len(message.text) > MAX_BODY:
            raise ValueError("a text of more than 2,000 characters")
        form = {
            "From": (message.approved and message.approved.header) or self.number,
            "To": message.address,
            "Body": message.text,
            "EncodingType": "plain" if smsutil.is_valid_gsm(message.text) else "unicode",
            "DltEntityId": self._entity,
            "SmsType": _type_of(message),
            "CustomField": message.reference or message.id,
        }
        if message.approved is not None:
            form["DltTemplateId"] = message.approved.name
        if self._callback:
            form["StatusCallback"] = self._callback
        return form

    async def _send(self, form: dict[str, str]) -> SendOutcome:
        return outcome(await self._client.call("POST", f"{self._path}/Sms/send.json", data=form))

    def parse(self, callback: Callback) -> Sequence[Update]:
        updates, skipped = parse(callback.body, callback.received_at)
        self._metrics.callbacks_skipped.labels(self.name).inc(skipped)
        return updates

    async def poll(self, messages: Sequence[Asked]) -> Sequence[Report]:
        """Raises: `TransientError` when the provider answers about none of them."""

        async def ask(asked: Asked) -> Report | Exception | None:
            try:
                path = f"{self._path}/SMS/Messages/{asked.provider_id}.json"
                answer = await self._client.call("GET", path)
            except (NotTakenError, NoAnswerError) as error:
                return error
            if answer.status != 200:
                return None
            return report_of(_message(answer), asked.asked_at, sid="Sid", sent="DateUpdated")

        known = [each for each in messages if _IN_A_PATH.fullmatch(each.provider_id or "")]
        found = await asyncio.gather(*(ask(each) for each in known))
        if found and all(isinstance(each, Exception) for each in found):
            raise TransientError("exotel does not answer")
        return [each for each in found if isinstance(each, Report)]

    async def close(self) -> None:
        await self._client.close()


def _kind_of(message: Message) -> tuple[str, ...]:
    """Equal for messages that may go in one call: of the same template, header and type."""
    approved = message.approved
    return (_type_of(message), *((approved.name, approved.header or "") if approved else ()))


def _type_of(message: Message) -> str:
    """A broadcast is promotional, whatever it is about: whether a political text is one is not settled."""
    if message.approved is not None and message.approved.category in TYPES:
        return TYPES[message.approved.category]
    return PROMOTIONAL if message.purpose == Purpose.BROADCAST else OPTED_IN


def _message(answer: Answer) -> dict[str, Any]:
    return dict(mapping(mapping(answer.data).get("SMSMessage")))


def outcome(answer: Answer) -> SendOutcome:
    """The outcome of a call. Only an answer in Exotel's own form is believed."""
    if answer.status in (200, 202):
        sent = _message(answer)
        status, detail = word(sent.get("Status")), word(sent.get("DetailedStatus"))
        provider_id = identifier(sent.get("Sid"))
        if reached(status, detail) is Delivery.FAILED:
            return outcome_of(failure(status, detail), code=detail or status)
        if provider_id is None:
            return SendOutcome(OutcomeClass.UNKNOWN, UNREADABLE)
        return SendOutcome(OutcomeClass.SENT, provider_id=provider_id)
    refused = mapping(mapping(answer.data).get("RestException"))
    if answer.status in (401, 429) or (answer.status >= 400 and refused):
        code = word(refused.get("Code"))
        return outcome_of(refusal(answer.status, code), answer.retry_after, code=code or answer.status)
    return SendOutcome(OutcomeClass.UNKNOWN, UNREADABLE)
