"""Reads Exotel's callbacks: a form for each status of a message, for each missed call, and for each SMS to a
number of ours. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Final
from urllib.parse import parse_qsl

from services.notifications.channels.exotel.errors import failure, reached
from services.notifications.core.parsing import identifier, phone, shortened, text_of, word
from services.notifications.core.updates import Delivery, Inbound, Person, Report, Update

MAX_BODY: Final = 64 * 1024
MAX_FIELDS: Final = 100
IST: Final = timezone(timedelta(hours=5, minutes=30))
"""Exotel gives times of India without a zone."""
_AHEAD: Final = timedelta(days=1)


def parse(body: bytes, received_at: datetime) -> tuple[list[Update], int]:
    """The update of a form, and how many were skipped: one or none.

    Raises: `ValueError` for a body that is no form of Exotel.
    """
    if len(body) > MAX_BODY:
        raise ValueError("too large")
    fields = dict(parse_qsl(body.decode(), max_num_fields=MAX_FIELDS))
    if "SmsSid" in fields and "Status" not in fields and "Body" in fields:
        written = _written(fields, received_at)
        return ([written], 0) if written else ([], 1)
    if "SmsSid" in fields:
        report = report_of(fields, received_at, sid="SmsSid", sent="DateSent")
        return ([report], 0) if report else ([], 1)
    if "CallSid" in fields:
        call = _call(fields, received_at)
        return ([call], 0) if call else ([], 1)
    raise ValueError("neither of a message nor of a call")


def report_of(fields: Mapping[str, object], at: datetime, *, sid: str, sent: str) -> Report | None:
    """The report of a callback's form, or of a polled message; None for one without an id or with a status
    that is unknown. `sid` and `sent` name its fields."""
    status, detail = word(fields.get("Status")), word(fields.get("DetailedStatus"))
    provider_id, delivery = identifier(fields.get(sid)), reached(status, detail)
    if provider_id is None or delivery is None:
        return None
    code = meaning = error_class = None
    if delivery is Delivery.FAILED:
        error = failure(status, detail)
        meaning, error_class = error.meaning, error.word
        code = detail or status
    number = text_of(fields.get("DetailedStatusCode"), 20)
    return Report(
        provider_id=provider_id,
        reference=identifier(fields.get("CustomField")),
        status=delivery,
        at=_instant(fields.get(sent), at),
        code=f"{code}:{number}" if code and number else code,
        meaning=meaning,
        error_class=error_class,
        person=Person(phone(international(fields.get("To")))),
    )


def _written(fields: Mapping[str, str], received_at: datetime) -> Inbound | None:
    """An SMS to one of our numbers."""
    provider_id, writer = identifier(fields["SmsSid"]), phone(international(fields.get("From")))
    if provider_id is None or writer is None:
        return None
    to = phone(international(fields.get("To")))
    at = _instant(fields.get("DateCreated") or fields.get("Date"), received_at)
    return Inbound(provider_id, Person(writer), at, to=to, text=shortened(fields["Body"]))


def _call(fields: Mapping[str, str], received_at: datetime) -> Inbound | None:
    """A call to one of our numbers that nobody takes up: to call it is the message."""
    provider_id = identifier(fields["CallSid"])
    caller = phone(international(fields.get("CallFrom") or fields.get("From")))
    to = phone(international(fields.get("CallTo") or fields.get("To")))
    if provider_id is None or caller is None or to is None:
        return None
    at = _instant(fields.get("StartTime") or fields.get("Created"), received_at)
    return Inbound(provider_id, Person(caller), at, to=to, missed_call=True)


def international(value: object) -> str | None:
    """An Indian number as Exotel writes it (`09876543210`, `9876543210`, `919876543210`) with its country
    code; others as they are."""
    number = text_of(value, 17)
    if number is None or number.startswith("+"):
        return number
    local = number.lstrip("0")
    return f"+91{local}" if len(local) == 10 else f"+{local}"


def _instant(value: object, otherwise: datetime) -> datetime:
    """A local time such as `2026-11-26 18:00:00`, unless it cannot be."""
    try:
        at = datetime.fromisoformat(text_of(value, 32) or "")
    except ValueError:
        return otherwise
    at = at if at.tzinfo else at.replace(tzinfo=IST)
    at = at.astimezone(otherwise.tzinfo)
    return at if otherwise - timedelta(days=366) <= at <= otherwise + _AHEAD else otherwise
