"""Which faults pass: by MongoDB's labels, classes and codes, alone and inside a bulk."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo.errors import AutoReconnect, BulkWriteError, InvalidOperation, OperationFailure, PyMongoError

from services.shared.errors import PermanentError, TransientError
from services.shared.faults import FaultFamily, classify

KILL_OP, NETWORK_TIME, BUSY, LIFETIME, FULL_DISK, NO_RIGHT = 11601, 202, 365, 290, 14031, 13
INVALID_DOCUMENT, TOO_LARGE_FOR_CACHE = 121, 388
UNHEARD_OF, BAD_VALUE = 424242, 2


def server(code: int) -> OperationFailure:
    return OperationFailure("as the server would", code)


def bulk(*codes: int, concern: int | None = None) -> BulkWriteError:
    details: dict[str, Any] = {"writeErrors": [{"code": code} for code in codes]}
    return BulkWriteError(details | {"writeConcernErrors": [{"code": concern}] if concern else []})


@pytest.mark.parametrize("code", [KILL_OP, NETWORK_TIME, BUSY, LIFETIME, FULL_DISK, NO_RIGHT, 10107, 91, 43])
def test_what_the_server_says_passes_is_transient(code: int) -> None:
    assert classify(server(code)) is FaultFamily.TRANSIENT
    assert classify(bulk(code)) is FaultFamily.TRANSIENT
    assert classify(bulk(11000, code)) is FaultFamily.TRANSIENT


def test_a_label_of_the_server_counts_more_than_its_code() -> None:
    error = OperationFailure("", BAD_VALUE, {"errorLabels": ["TransientTransactionError"]})
    assert classify(error) is FaultFamily.TRANSIENT
    assert classify(AutoReconnect()) is FaultFamily.TRANSIENT
    assert classify(bulk(concern=64)) is FaultFamily.TRANSIENT


@pytest.mark.parametrize("error", [server(11000), bulk(11000), bulk(11000, 11000)])
def test_a_duplicate_key_is_a_race(error: PyMongoError) -> None:
    assert classify(error) is FaultFamily.RACE


@pytest.mark.parametrize("error", [server(UNHEARD_OF), server(BAD_VALUE), bulk(UNHEARD_OF)])
def test_a_code_on_no_list_is_not_believed_at_once(error: PyMongoError) -> None:
    assert classify(error) is FaultFamily.UNKNOWN


@pytest.mark.parametrize(
    "error",
    [
        *(server(INVALID_DOCUMENT), bulk(INVALID_DOCUMENT, 11000), server(TOO_LARGE_FOR_CACHE)),
        *(InvalidOperation(), PermanentError("x"), KeyError()),
    ],
)
def test_the_rest_is_permanent(error: Exception) -> None:
    assert classify(error) is FaultFamily.PERMANENT


@pytest.mark.parametrize("error", [TransientError(), TimeoutError(), ConnectionResetError()])
def test_what_networks_do_is_transient(error: Exception) -> None:
    assert classify(error) is FaultFamily.TRANSIENT
