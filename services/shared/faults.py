"""Faults and how they are treated: time cures one family, the other is isolated and reported.

A transient fault (network, election, write conflict, a busy service) is retried in place. A permanent one is
never retried: its record becomes a dead letter, its job fails, its request gets an error.
"""

from __future__ import annotations

import enum
import random
from typing import Final

from pydantic import ValidationError
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    NetworkTimeout,
    PyMongoError,
    WTimeoutError,
)

from services.shared.errors import PermanentError, TransientError

DUPLICATE_KEY: Final = 11000
WRITE_CONFLICT: Final = 112
RETRYABLE_CODES: Final = frozenset(
    {24, 50, WRITE_CONFLICT, 239, 246, 251, 262, 11600, 11602, 10107, 13435, 13436, 189, 91}
)
"""Server errors that a retry cures: LockTimeout, WriteConflict, MaxTimeMSExpired, SnapshotUnavailable,
NoSuchTransaction, the codes of a primary that steps down. TransactionTooLargeForCache is not among them, because
a retry repeats it. Source: MongoDB, error_codes.yml."""

MAX_RACES: Final = 8
"""Retries of a duplicate key before it counts as a bug."""


class FaultFamily(enum.Enum):
    TRANSIENT = "transient"
    RACE = "race"
    """Two writers met on a unique key: one retry sees the other's work; many mean a bug."""
    PERMANENT = "permanent"


def classify(error: BaseException) -> FaultFamily:
    """The family of an exception; one that is not known to pass is permanent."""
    if isinstance(error, DuplicateKeyError) or _is_duplicate_in_bulk(error):
        return FaultFamily.RACE
    if isinstance(error, PyMongoError):
        return FaultFamily.TRANSIENT if is_transient(error) else FaultFamily.PERMANENT
    if isinstance(error, TransientError | TimeoutError | ConnectionError):
        return FaultFamily.TRANSIENT
    return FaultFamily.PERMANENT


def is_transient(error: PyMongoError) -> bool:
    """Whether the same operation may succeed later with nothing changed (network, election, write conflict)."""
    if isinstance(error, ConnectionFailure | NetworkTimeout | ExecutionTimeout | WTimeoutError):
        return True
    if any(
        error.has_error_label(label)
        for label in ("TransientTransactionError", "UnknownTransactionCommitResult", "RetryableWriteError")
    ):
        return True
    return getattr(error, "code", None) in RETRYABLE_CODES


def describe(error: BaseException) -> tuple[str, str]:
    """`(reason, detail)` for a dead letter or a failed job, free of the values that caused it.

    An exception's own text may quote data, so only its class and, for validation errors, the fields are kept.
    """
    if isinstance(error, PermanentError):
        return error.reason, error.detail
    if isinstance(error, ValidationError):
        fields = (f"{'.'.join(map(str, e['loc']))}: {e['type']}" for e in error.errors(include_input=False))
        return "invalid_data", "; ".join(fields)[:500]
    return "handler_error", type(error).__name__


def backoff_seconds(attempt: int, *, first: float = 0.05, longest: float = 10.0) -> float:
    """Full jitter: uniformly between 0 and min(longest, first * 2**attempt), so retries do not march in step."""
    return random.uniform(0, min(longest, first * 2 ** min(attempt, 20)))  # noqa: S311 (not a secret)


def _is_duplicate_in_bulk(error: BaseException) -> bool:
    return isinstance(error, BulkWriteError) and all(
        e.get("code") == DUPLICATE_KEY for e in error.details.get("writeErrors", [{}])
    )
