"""Two error families: what time cures is retried in place, what it does not is isolated and dead-lettered."""

from __future__ import annotations

import enum
import random

from pydantic import ValidationError
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError

from services.shared.mongo import is_transient

DUPLICATE_KEY = 11000
MOST_RACES = 8
"""Retries of a duplicate key before it counts as a bug."""


class TransientError(Exception):
    """Raised by our own code for a fault that passes: a peer's API is down, a broker does not answer."""


class PermanentError(Exception):
    """Raised by our own code when no retry can help. `reason` is a word for metrics and dead letters."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class Verdict(enum.Enum):
    TRANSIENT = "transient"
    RACE = "race"
    """Two writers met on a unique key: one retry sees the other's work; many mean a bug."""
    PERMANENT = "permanent"


def classify(error: BaseException) -> Verdict:
    """Which family an exception belongs to; what is not known to pass is permanent."""
    if isinstance(error, DuplicateKeyError) or _is_duplicate_in_bulk(error):
        return Verdict.RACE
    if isinstance(error, PyMongoError):
        return Verdict.TRANSIENT if is_transient(error) else Verdict.PERMANENT
    if isinstance(error, TransientError | TimeoutError | ConnectionError):
        return Verdict.TRANSIENT
    return Verdict.PERMANENT


def describe(error: BaseException) -> tuple[str, str]:
    """`(reason, detail)` of a dead letter, free of the values that caused it.

    An exception's own text may quote data, so only its class and, for validation errors, the fields are kept.
    """
    if isinstance(error, PermanentError):
        return error.reason, error.detail
    if isinstance(error, ValidationError):
        fields = (f"{'.'.join(map(str, e['loc']))}: {e['type']}" for e in error.errors(include_input=False))
        return "invalid_data", "; ".join(fields)[:500]
    return "handler_error", type(error).__name__


def backoff_seconds(attempt: int, *, first: float = 0.05, most: float = 10.0) -> float:
    """Full jitter: uniformly between 0 and min(most, first * 2**attempt), so that retries do not march in step."""
    return random.uniform(0, min(most, first * 2 ** min(attempt, 20)))  # noqa: S311 (not a secret)


def _is_duplicate_in_bulk(error: BaseException) -> bool:
    return isinstance(error, BulkWriteError) and all(
        e.get("code") == DUPLICATE_KEY for e in error.details.get("writeErrors", [{}])
    )
