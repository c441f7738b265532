"""Statuses and errors of Exotel's SMS API by what they mean.

Source: developer.exotel.com, "SMS API" and "SMS status codes", read November 2026. Two of its pages give
different numbers for one status (20000 and 20005), so a status is known by its text, `DetailedStatus`, and by
the short `Status`; the number is kept, not read. A request that is refused is known by the `Code` of its
`RestException` ("Common SMS API Errors"), else by its HTTP status.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from services.notifications.core.domain import Meaning
from services.notifications.core.providers import ProviderError
from services.notifications.core.updates import Delivery

BY_STATUS: Final[Mapping[str, Delivery]] = {
    "queued": Delivery.QUEUED,
    "sending": Delivery.QUEUED,
    "submitted": Delivery.SENT,
    "sent": Delivery.SENT,
    "delivered": Delivery.DELIVERED,
    "failed": Delivery.FAILED,
    "expired": Delivery.FAILED,
    "undelivered": Delivery.FAILED,
    "failed-dnd": Delivery.FAILED,
}
BY_DETAIL: Final[Mapping[str, Delivery]] = {
    "delivered_to_handset": Delivery.DELIVERED,
    "delivered_to_operator": Delivery.SENT,  # the operator has it; the phone has not
}
"""These outweigh `Status`."""

UNKNOWN: Final = ProviderError(Meaning.MESSAGE, "unknown_error")
ERRORS: Final[Mapping[str, ProviderError]] = {
    # The register of people who want no promotion: it bars this kind of message, and is no opt-out from us.
    "failed_dnd": ProviderError(Meaning.ROUTE, "do_not_disturb"),
    "failed_dlt_template": ProviderError(Meaning.TEMPLATE, "template_refused"),
    "failed_dlt_scrubbing": ProviderError(Meaning.TEMPLATE, "template_refused"),
    "failed_dlt_consent": ProviderError(Meaning.ROUTE, "no_dlt_consent"),
    "failed_invalid_sender": ProviderError(Meaning.NUMBER, "number_stopped"),
    "failed_invalid_number": ProviderError(Meaning.RECIPIENT, "invalid_number"),
    # The operators' own: promotional SMS outside 10:00-21:00 IST, refused since October 2025.
    "ec_invalid_promo_time": ProviderError(Meaning.DEFER, "quiet_hours"),
    "expired": ProviderError(Meaning.RECIPIENT, "undeliverable"),
    "undelivered": ProviderError(Meaning.RECIPIENT, "undeliverable"),
}
"""By `DetailedStatus`, else by `Status`."""
_NO_ACCESS: Final = ProviderError(Meaning.CHANNEL, "no_access")
BY_HTTP: Final[Mapping[int, ProviderError]] = {
    400: ProviderError(Meaning.BUG, "bad_request"),
    401: _NO_ACCESS,
    402: ProviderError(Meaning.CHANNEL, "account_stopped"),  # no balance
    403: _NO_ACCESS,
    404: _NO_ACCESS,  # no such account
    429: ProviderError(Meaning.RETRY, "throttled"),  # about 200 calls a minute
}
BY_CODE: Final[Mapping[str, ProviderError]] = {
    "invalid_sender": ProviderError(Meaning.NUMBER, "number_stopped"),
    "invalid_dlt_entity": ProviderError(Meaning.CHANNEL, "account_stopped"),
    "invalid_dlt_template": ProviderError(Meaning.TEMPLATE, "template_refused"),
}
BUSY: Final = ProviderError(Meaning.RETRY, "provider_busy")


def refusal(status: int, code: str | None = None) -> ProviderError:
    """The meaning of a request that was refused with this HTTP status and `Code`."""
    return BY_CODE.get(code or "") or BY_HTTP.get(status) or (BUSY if status >= 500 else UNKNOWN)


def reached(status: str | None, detail: str | None) -> Delivery | None:
    """How far a message has come; None for words that the tables do not have."""
    if detail in ERRORS or (detail or "").startswith("failed"):
        return Delivery.FAILED
    return BY_DETAIL.get(detail or "") or BY_STATUS.get(status or "")


def failure(status: str | None, detail: str | None) -> ProviderError:
    """The meaning of a message that failed."""
    return ERRORS.get(detail or "") or ERRORS.get(status or "") or UNKNOWN
