"""The sender for SMS: Exotel's API over HTTP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any, Final

import smsutil

from services.notifications.channels.exotel.callbacks import parse, report_of
from services.notifications.channels.exotel.errors import failure, reached, refusal
from services.notifications.core.channel import Message
from services.notifications.core.domain import OutcomeClass, SendOutcome
from services.notifications.core.metrics import NotificationMetrics
from services.notifications.core.parsing import identifier, mapping, word
from services.notifications.core.providers import (
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
    """Sends each message by a call of its own, for no two texts are alike. Exotel gives `CustomField`, our
    reference, back in each callback; it calls back twice at most, so messages are polled too."""

    name: Final = "exotel"
    polls: Final = True
    approved_only: Final = True

    def __init__(self, settings: NotificationsSettings, metrics: NotificationMetrics) -> None:
        self.account = settings.exotel_account_sid
        self.number = settings.exotel_header
        self._entity = settings.dlt_entity_id
        self._callback = settings.exotel_callback_url.get_secret_value()
        self._path = f"/v1/Accounts/{self.account}"
        self._metrics = metrics
        secrets = settings.exotel_api_key.get_secret_value(), settings.exotel_api_token.get_secret_value()
        self._client = ProviderClient(settings.exotel_url, concurrency=CONCURRENCY, auth=secrets)

    async def send(self, messages: Sequence[Message]) -> Sequence[SendOutcome]:
        return await each(messages, self.form_of, self._send)

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
