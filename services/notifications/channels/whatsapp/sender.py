"""The sender for WhatsApp: Meta's Cloud API over HTTP."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from services.notifications.channels.whatsapp.callbacks import parse
from services.notifications.channels.whatsapp.errors import error_of
from services.notifications.core.channel import Approved, Message
from services.notifications.core.domain import OutcomeClass, SendOutcome
from services.notifications.core.metrics import NotificationMetrics
from services.notifications.core.parsing import identifier, mapping, objects
from services.notifications.core.providers import UNREADABLE, Answer, ProviderClient, each, outcome_of
from services.notifications.core.updates import Asked, Callback, Report, Update
from services.notifications.settings import NotificationsSettings

CONCURRENCY: Final = 40
MAX_BODY: Final = 4096
"""Characters of a text (Meta, "Text messages")."""
_USER_ID: Final = re.compile(r"[A-Z]{2}\.[A-Za-z0-9.]{1,160}", re.ASCII)
"""A business-scoped id; it goes whole."""


class WhatsAppSender:
    """Sends templates, and texts within the 24 hours that a person's own message opens. Meta gives
    `biz_opaque_callback_data`, our reference, back in each status."""

    name: Final = "whatsapp"
    approved_only: Final = True
    polls: Final = False
    """The past of a message cannot be asked for: only callbacks tell."""

    def __init__(self, settings: NotificationsSettings, metrics: NotificationMetrics) -> None:
        self.number = settings.whatsapp_phone_number_id
        self.account = settings.whatsapp_account_id
        self._path = f"/{settings.whatsapp_api_version}/{self.number}/messages"
        self._metrics = metrics
        token = settings.whatsapp_token.get_secret_value()
        self._client = ProviderClient(settings.whatsapp_url, concurrency=CONCURRENCY, token=token)

    async def send(self, messages: Sequence[Message]) -> Sequence[SendOutcome]:
        return await each(messages, request_of, self._send)

    async def _send(self, request: dict[str, Any]) -> SendOutcome:
        return outcome(await self._client.call("POST", self._path, json=request))

    def parse(self, callback: Callback) -> Sequence[Update]:
        updates, skipped = parse(callback.body, callback.received_at)
        self._metrics.callbacks_skipped.labels(self.name).inc(skipped)
        return updates

    async def poll(self, messages: Sequence[Asked]) -> Sequence[Report]:
        return []

    async def close(self) -> None:
        await self._client.close()


def request_of(message: Message) -> dict[str, Any]:
    """Raises: `ValueError` for a text that is too long."""
    common = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "biz_opaque_callback_data": message.reference or message.id,
        **_recipient(message.address),
    }
    if message.approved is not None:
        return {**common, "type": "template", "template": _template(message.approved)}
    if len(message.text) > MAX_BODY:
        raise ValueError("a text of more than 4,096 characters")
    return {**common, "type": "text", "text": {"body": message.text, "preview_url": False}}


def _recipient(address: str) -> dict[str, str]:
    """`to` is a phone number, with `+`: without it, Meta puts our own country code before it."""
    if _USER_ID.fullmatch(address):
        return {"recipient": address}
    return {"to": address if address.startswith("+") else f"+{address}"}


def _template(approved: Approved) -> dict[str, Any]:
    """The places of a template are named, or numbered from 1; the order of numbered ones counts."""
    parameters = [
        {"type": "text", **({} if name.isdecimal() else {"parameter_name": name}), "text": value}
        for name, value in approved.variables
    ]
    components = [{"type": "body", "parameters": parameters}] if parameters else []
    return {"name": approved.name, "language": {"code": approved.language}, "components": components}


def outcome(answer: Answer) -> SendOutcome:
    """The outcome of a call. Only an answer in Meta's own form is believed."""
    data = mapping(answer.data)
    if answer.status == 200:
        sent = next(objects(data.get("messages"), 1), {})
        provider_id = identifier(sent.get("id"))
        if provider_id is None:
            return SendOutcome(OutcomeClass.UNKNOWN, UNREADABLE)
        return SendOutcome(OutcomeClass.SENT, provider_id=provider_id)
    code = mapping(data.get("error")).get("code")
    if isinstance(code, int) and not isinstance(code, bool) and answer.status >= 400:
        return outcome_of(error_of(code, status=answer.status), answer.retry_after, code=code)
    if answer.status in (401, 429):  # these two are refusals whatever the body says (RFC 9110, RFC 6585)
        return outcome_of(error_of(190 if answer.status == 401 else 130429), answer.retry_after)
    return SendOutcome(OutcomeClass.UNKNOWN, UNREADABLE)
