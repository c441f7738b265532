"""Classification of faults: a transient fault (network, election, write conflict, a busy service) is retried
in place.

A permanent fault is never retried: its record becomes a dead letter, its job fails, its request gets an
error.
"""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Sequence
from functools import cache
from typing import Final

from pydantic import BaseModel, ValidationError
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    ExecutionTimeout,
    NetworkTimeout,
    PyMongoError,
    WTimeoutError,
)

from services.shared.errors import PermanentError, TransientError

DUPLICATE_KEY: Final = 11000
WRITE_CONFLICT: Final = 112

TRANSIENT_LABELS: Final = (
    "TransientTransactionError",
    "UnknownTransactionCommitResult",
    "RetryableWriteError",
    "RetryableError",
    "SystemOverloadedError",
)
"""Labels by which MongoDB says that the operation may be tried again."""

TRANSIENT_CODES: Final = frozenset(
    {
        *(6, 7, 89, 384, 9001),  # NetworkError
        *(189, 10058, 10107, 11602, 13435, 13436),  # NotPrimaryError
        *(91, 333, 11600),  # ShutdownError
        *(24, 50, 237, 262, 279, 281, 282, 290, 355, 11601),  # Interruption: `killOp`, limits of time
        *(202, 407),  # ExceededTimeLimitError, beside those above
        *(239, 246, 250, 272),  # SnapshotError
        *(43, 175, 314),  # CursorInvalidatedError, beside those above
        *(134, 358, 402, 406, 412),  # RetriableError, beside those above
        *(433, 449),  # SystemOverloadedError
        *(64, 79, 100),  # WriteConcernError
        # Without a class: LockBusy, LockFailed, WriteConflict, DatabaseDropPending, ElectionInProgress,
        # IndexModified, NoSuchTransaction, TooManyFilesOpen, TemporarilyUnavailable.
        *(46, 107, WRITE_CONFLICT, 215, 216, 221, 251, 264, 365),
        # For an operator to cure, and no fault of the record: Unauthorized, AuthenticationFailed,
        # UserWritesBlocked, ReauthenticationRequired, OutOfDiskSpace.
        *(13, 18, 371, 391, 14031),
    }
)
"""Codes of server errors that pass, by their classes in MongoDB's error_codes.yml."""
PERMANENT_CODES: Final = frozenset({121, 257, 388, 10334})
"""Codes that the same operation always gets: DocumentValidationFailure, TransactionTooLarge,
TransactionTooLargeForCache, BSONObjectTooLarge."""


class FaultFamily(enum.Enum):
    TRANSIENT = "transient"
    RACE = "race"
    """Two writers inserted the same unique key. One retry sees the other's write; many retries mean a bug."""
    UNKNOWN = "unknown"
    """The server answered with a code that is on no list: it may pass, so it is not believed at once."""
    PERMANENT = "permanent"


MAX_NAMED: Final = 20
"""Invalid fields that a dead letter names."""
MAX_RACES: Final = 8
MAX_RETRIES: Final = {
    FaultFamily.TRANSIENT: math.inf,
    FaultFamily.RACE: MAX_RACES,
    FaultFamily.UNKNOWN: 2,
    FaultFamily.PERMANENT: 0,
}
"""How often work is retried after faults of each family, before the work counts as failed."""


def classify(error: BaseException) -> FaultFamily:
    """The family of an exception. An exception that is neither a server's nor known to pass is permanent."""
    if isinstance(error, PyMongoError):
        return _classify_mongo(error)
    if isinstance(error, TransientError | TimeoutError | ConnectionError):
        return FaultFamily.TRANSIENT
    return FaultFamily.PERMANENT


def may_pass(error: BaseException) -> bool:
    """Whether the same work, unchanged, may succeed later, as after a network fault or a lost race. What is
    not known to pass is taken for a fault of the work itself."""
    return classify(error) in (FaultFamily.TRANSIENT, FaultFamily.RACE)


def _classify_mongo(error: PyMongoError) -> FaultFamily:
    if isinstance(error, ConnectionFailure | NetworkTimeout | ExecutionTimeout | WTimeoutError):
        return FaultFamily.TRANSIENT
    if any(error.has_error_label(label) for label in TRANSIENT_LABELS):
        return FaultFamily.TRANSIENT
    codes = _codes(error)
    if codes == {DUPLICATE_KEY}:
        return FaultFamily.RACE
    if codes & TRANSIENT_CODES:
        return FaultFamily.TRANSIENT
    # An error without a code was raised by the driver, before the server saw anything.
    return FaultFamily.PERMANENT if not codes or codes & PERMANENT_CODES else FaultFamily.UNKNOWN


def _codes(error: PyMongoError) -> set[int]:
    """The server's codes: one, or those of each failed write and write concern of a bulk."""
    if not isinstance(error, BulkWriteError):
        code = getattr(error, "code", None)
        return set() if code is None else {code}
    details = error.details
    failed = [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
    return {each["code"] for each in failed if "code" in each}


def describe(error: BaseException) -> tuple[str, str]:
    """`(reason, detail)` for a dead letter or a failed job, without the data that caused the error.

    An exception's message may quote data, so only its class is kept, and the fields of a validation error. A
    key of the data, which anybody may have chosen, is shown as `*`.
    """
    if isinstance(error, PermanentError):
        return error.reason, error.detail
    if isinstance(error, ValidationError):
        if error.error_count() > MAX_NAMED:  # naming a field costs more than finding its fault
            return "invalid_data", f"{error.error_count()} fields"
        fields = (f"{_path(e['loc'])}: {e['type']}" for e in error.errors(include_input=False))
        return "invalid_data", "; ".join(fields)[:500]
    return "handler_error", type(error).__name__


def _path(steps: Sequence[int | str]) -> str:
    known = _field_names()
    return ".".join([str(step) if isinstance(step, int) or step in known else "*" for step in steps])


@cache
def _field_names() -> frozenset[str]:
    """The names of all fields of all models: words of ours, which say nothing of anybody."""
    names: set[str] = set()
    models: list[type[BaseModel]] = [BaseModel]
    while models:
        model = models.pop()
        names |= model.model_fields.keys()
        models += model.__subclasses__()
    return frozenset(names)


def backoff_seconds(attempt: int, *, first: float = 0.05, longest: float = 10.0) -> float:
    """Seconds to wait, with full jitter: uniform in [0, min(longest, first * 2**attempt)], so that retries
    spread out."""
    return random.uniform(0, min(longest, first * 2 ** min(attempt, 20)))  # noqa: S311 (not a secret)
