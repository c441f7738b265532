"""Values in requests, each in one form: pydantic's own types also read `20261126` as a second of 1970, and
`1_0` as 10."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator

from services.shared.contracts.vocabulary import UUID
from services.shared.text import refuse

EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(9999, 12, 29, tzinfo=UTC)
"""Bounds of a time in a request. In any zone, two days around them are still dates of Python and of BSON."""

_UUID: Final = re.compile(UUID, re.IGNORECASE)


def _written(form: str, what: str) -> Callable[[object], object]:
    pattern = re.compile(form, re.ASCII)

    def check(value: object) -> object:
        if isinstance(value, str) and pattern.fullmatch(value):
            return value
        raise refuse(f"must be {what}")

    return check


def _instant(value: datetime) -> datetime:
    if not EARLIEST <= value <= LATEST:
        raise refuse("must be between the years 1970 and 9999")
    return value.astimezone(UTC)


def _day(value: date) -> date:
    if not EARLIEST.date() <= value <= LATEST.date():
        raise refuse("must be between the years 1970 and 9999")
    return value


def canonical_id(typed: str) -> str:
    """The one form of an id: a UUID in lower case (RFC 9562, 4). Other names stay as they are."""
    return typed.lower() if _UUID.fullmatch(typed) else typed


Timestamp = Annotated[
    AwareDatetime,
    AfterValidator(_instant),
    BeforeValidator(
        _written(
            r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)",
            "an RFC 3339 timestamp, such as 2026-11-26T12:00:00Z",
        )
    ),
]
"""An instant as RFC 3339 writes it, in UTC."""

Day = Annotated[
    date, AfterValidator(_day), BeforeValidator(_written(r"\d{4}-\d\d-\d\d", "a date, such as 2026-11-26"))
]
"""A day as RFC 3339 writes it (`full-date`)."""

Canonical: Final[Any] = AfterValidator(canonical_id)
"""Marks a parameter or field that is an id."""

Digits: Final[Any] = BeforeValidator(_written(r"-?(0|[1-9]\d{0,17})", "an integer in digits"))
"""Marks a query parameter that is an integer."""
