"""Classification of faults: a transient fault (network, election, write conflict, a busy service) is retried
in place.

A permanent fault is never retried: its record becomes a dead letter, its job fails, its request gets an
error.
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
NoSuchTransaction, and the codes of a primary that steps down. TransactionTooLargeForCache is missing on
purpose: a retry repeats it. Source: MongoDB, error_codes.yml."""

MAX_RACES: Final = 8
"""Retries after a duplicate key before it counts as a bug."""


class FaultFamily(enum.Enum):
    TRANSIENT = "transient"
    RACE = "race"
    """Two writers inserted the same unique key. One retry sees the other's write; many retries mean a bug."""
    PERMANENT = "permanent"


def classify(error: BaseException) -> FaultFamily:
    """The family of an exception. An exception not known to be transient is permanent."""
    if isinstance(error, DuplicateKeyError) or _is_duplicate_in_bulk(error):
        return FaultFamily.RACE
    if isinstance(error, PyMongoError):
        return FaultFamily.TRANSIENT if is_transient(error) else FaultFamily.PERMANENT
    if isinstance(error, TransientError | TimeoutError | ConnectionError):
        return FaultFamily.TRANSIENT
    return FaultFamily.PERMANENT


def is_transient(error: PyMongoError) -> bool:
    """Whether the same operation may succeed later, unchanged (network, election, write conflict)."""
    if isinstance(error, ConnectionFailure | NetworkTimeout | ExecutionTimeout | WTimeoutError):
        return True
    if any(
        error.has_error_label(label)
        for label in ("TransientTransactionError", "UnknownTransactionCommitResult", "RetryableWriteError")
    ):
        return True
    return getattr(error, "code", None) in RETRYABLE_CODES


def describe(error: BaseException) -> tuple[str, str]:
    """`(reason, detail)` for a dead letter or a failed job, without the data that caused the error.

    An exception's message may quote data, so only its class is kept, and the field names of a validation
    error.
    """
    if isinstance(error, PermanentError):
        return error.reason, error.detail
    if isinstance(error, ValidationError):
        fields = (f"{'.'.join(map(str, e['loc']))}: {e['type']}" for e in error.errors(include_input=False))
        return "invalid_data", "; ".join(fields)[:500]
    return "handler_error", type(error).__name__


def backoff_seconds(attempt: int, *, first: float = 0.05, longest: float = 10.0) -> float:
    """Seconds to wait, with full jitter: uniform in [0, min(longest, first * 2**attempt)], so that retries
    spread out."""
    return random.uniform(0, min(longest, first * 2 ** min(attempt, 20)))  # noqa: S311 (not a secret)


def _is_duplicate_in_bulk(error: BaseException) -> bool:
    return isinstance(error, BulkWriteError) and all(
        e.get("code") == DUPLICATE_KEY for e in error.details.get("writeErrors", [{}])
    )
