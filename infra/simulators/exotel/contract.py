"""Words and numbers of Exotel's SMS API.

Sources: developer.exotel.com, as of 2026: "Send SMS" and "Bulk SMS" (API reference and support guide), "SMS
Status Codes" (two pages that give different numbers for the same status: `CODES_OF_SUPPORT`,
`CODES_OF_REFERENCE`), "Common SMS API Errors", "SMS Webhooks", "Rate Limiting", "Passthru Applet"; and the
project's facts of the field, B. A receiver must go by `DetailedStatus` and the top `Status`, never by the
number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from starlette.responses import Response

from infra.simulators.serving import Json

MAX_BODY_CHARACTERS: Final = 2_000
MAX_BULK: Final = 100
"""Messages, or numbers of a static bulk, in one request."""
PER_MINUTE: Final = 200
BULK_PER_MINUTE: Final = 50
GET_PER_MINUTE: Final = 300
RETRY_AFTER: Final = 30
ANSWER_WITHIN: Final = 15.0
"""Seconds in which a callback must be answered."""
CALLBACK_RETRIES: Final = 2
SMS_TYPES: Final = ("transactional", "transactional_opt_in", "promotional")
HOURS: Final = (10, 21)
"""Hours of the day in India in which promotional and service-explicit SMS pass (TCCCPR; since October 2025
the DLT platforms reject others with 651)."""
STATUSES: Final = ("queued", "sending", "submitted", "sent", "delivered", "failed", "expired", "undelivered")

FINAL: Final = {
    "DELIVERED_TO_HANDSET": "delivered",
    "DELIVERED_TO_OPERATOR": "sent",
    "EXPIRED": "expired",
    "EXPIRED_HANDSET_OFF": "expired",
    "EXPIRED_MEMORY_FULL": "expired",
    "FAILED_UNREACHABLE": "undelivered",
}
"""Top `Status` by `DetailedStatus`; every other `FAILED_*` and `EC_*` is `failed`."""

CODES_OF_SUPPORT: Final = {
    "DELIVERED_TO_HANDSET": 20000,
    "DELIVERED_TO_OPERATOR": 20001,
    "SUBMITTED_TO_CARRIER": 20002,
    "FAILED_DLT_TEMPLATE": 30001,
    "FAILED_DLT_ENTITY": 30002,
    "FAILED_INVALID_SENDER": 30003,
    "FAILED_DND": 30004,
    "FAILED_DLT_SCRUBBING": 30005,
    "FAILED_DLT_CONSENT": 30006,
    "FAILED_DLT_PREFERENCE": 30007,
    "FAILED_INVALID_NUMBER": 30010,
    "FAILED_UNREACHABLE": 30011,
    "FAILED_NETWORK_ERROR": 30012,
    "FAILED_OPERATOR_REJECTED": 30013,
    "FAILED_SPAM_DETECTED": 30014,
    "EXPIRED": 30020,
    "EXPIRED_HANDSET_OFF": 30021,
    "EXPIRED_MEMORY_FULL": 30022,
    "FAILED_INSUFFICIENT_BALANCE": 30030,
    "FAILED_ACCOUNT_SUSPENDED": 30031,
    "FAILED_RATE_LIMITED": 30032,
    "FAILED_SYSTEM_ERROR": 30033,
    "FAILED_ENCODING_ERROR": 30050,
    "FAILED_MESSAGE_TOO_LONG": 30051,
    "FAILED_EMPTY_BODY": 30052,
    "FAILED_UNKNOWN": 30099,
}
"""Numbers of the support guide's page."""

CODES_OF_REFERENCE: Final = {
    "DELIVERED_TO_HANDSET": 20005,
    "DELIVERED_TO_OPERATOR": 20006,
    "PENDING_TO_OPERATOR": 21010,
    "SENDING_TO_OPERATOR": 21015,
    "PENDING_ON_OPERATOR": 21020,
    "FAILED_DND": 23005,
    "FAILED_INVALID_NUMBER": 23010,
    "FAILED_SPAM_DETECTED": 23015,
    "FAILED_BLACKLISTED": 23020,
    "EXPIRED": 23050,
    "FAILED_INVALID_SENDER": 23072,
    "FAILED_DLT_SCRUBBING": 23080,
    "FAILED_DLT_ENTITY": 23081,
    "FAILED_DLT_TEMPLATE": 23082,
    "FAILED_DLT_CONSENT": 23083,
    "EC_INVALID_PROMO_TIME": 651,
}
"""Numbers of the API reference's page; 651 is that of the DLT platforms."""
OUTCOMES: Final = frozenset(CODES_OF_SUPPORT) | frozenset(CODES_OF_REFERENCE)
IN_FLIGHT: Final = {
    "queued": "PENDING_TO_OPERATOR",
    "sending": "SENDING_TO_OPERATOR",
    "submitted": "PENDING_ON_OPERATOR",
}
Codes = Literal["support", "reference", "both"]


def code_of(detailed: str, page: Codes, number: int) -> int:
    """The `DetailedStatusCode`; with `both`, the two pages take turns by the message's `number`."""
    first, second = CODES_OF_SUPPORT, CODES_OF_REFERENCE
    if page == "reference" or (page == "both" and number % 2):
        first, second = second, first
    return first.get(detailed) or second.get(detailed) or 30099


def status_of(detailed: str) -> str:
    """The top `Status` of a final `DetailedStatus`."""
    return FINAL.get(detailed, "failed")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error answer: `RestException{Status, Message, Code}`."""

    status: int
    code: str
    message: str

    def body(self) -> dict[str, Any]:
        return {"RestException": {"Status": self.status, "Message": self.message, "Code": self.code}}


def _refusals(*rows: tuple[int, str, str]) -> dict[str, Refusal]:
    return {code: Refusal(status, code, message) for status, code, message in rows}


REFUSALS: Final = _refusals(
    (400, "MISSING_PARAMETER", "Missing required parameter: {}"),
    (400, "INVALID_PARAMETER", "Invalid '{}'."),
    (400, "INVALID_SENDER", "Invalid 'From'. The sender ID is not approved or not linked to the account."),
    (400, "INVALID_DLT_ENTITY", "Invalid DltEntityId. Please provide a valid DLT Entity ID."),
    (400, "INVALID_DLT_TEMPLATE", "Invalid DltTemplateId. Template not found or not approved."),
    (400, "EMPTY_BODY", "Message body cannot be empty."),
    (400, "MESSAGE_TOO_LONG", f"Message body exceeds {MAX_BODY_CHARACTERS} characters."),
    (400, "ENCODING_MISMATCH", "Message contains Unicode characters but EncodingType is set to 'plain'."),
    (400, "TOO_MANY_MESSAGES", f"More than {MAX_BULK} messages in a bulk request."),
    (401, "UNAUTHORIZED", "Authentication failed. Invalid API Key or Token."),
    (401, "INVALID_ACCOUNT_SID", "Account SID is invalid or does not match credentials."),
    (402, "PAYMENT_REQUIRED", "Plan limit exceeded or insufficient balance."),
    (403, "ACCOUNT_SUSPENDED", "Your account is suspended. Contact support."),
    (403, "INSUFFICIENT_BALANCE", "Insufficient account balance to send SMS."),
    (403, "SERVICE_NOT_ENABLED", "SMS service is not enabled on your account."),
    (404, "NOT_FOUND", "No matching results"),
    (405, "METHOD_NOT_ALLOWED", "The method is not allowed here."),
    (409, "CONFLICT", "Duplicate request or resource conflict."),
    (429, "RATE_LIMIT_EXCEEDED", f"Rate limit exceeded. Maximum {PER_MINUTE} requests per minute."),
    (500, "INTERNAL_ERROR", "Internal server error."),
    (502, "BAD_GATEWAY", "Temporary upstream error."),
    (503, "SERVICE_UNAVAILABLE", "Service temporarily unavailable."),
)
"""Every error class by `Code`. Those with `{}` name the parameter."""


def refusal(what: int | str) -> Refusal:
    """A refusal by its `Code`, or the first one with this HTTP status.

    Raises: `KeyError`.
    """
    if str(what) in REFUSALS:
        return REFUSALS[str(what)]
    found = next((each for each in REFUSALS.values() if str(each.status) == str(what)), None)
    if found is None:
        raise KeyError(what)
    return found


def answer(body: dict[str, Any] | list[Any], status: int, *, as_xml: bool) -> Response:
    """JSON, or the XML that a path without `.json` is answered with."""
    if not as_xml:
        return Json(body, status, {"content-type": "application/json"})
    xml = f'<?xml version="1.0" encoding="UTF-8"?>\n<TwilioResponse>{_xml(body)}</TwilioResponse>'
    return Response(xml, status, media_type="application/xml")


def _xml(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(f"<{name}>{_xml(each)}</{name}>" for name, each in value.items())
    if isinstance(value, list):
        return "".join(_xml(each) for each in value)
    text = "" if value is None else str(value)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
