"""Answers kept for repeated requests."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from bson import BSON

from services.shared.database.idempotency import (
    TTL_SECONDS,
    Answer,
    IdempotentRequest,
    earlier_answer,
    to_document,
)
from services.shared.errors import KeyReusedError

AT = datetime(2026, 7, 1, tzinfo=UTC)
REQUEST = IdempotentRequest(b"i" * 32, b"f" * 32)
ANSWER = Answer(201, {"ETag": '"1"', "Location": "/v1/things/1"}, b'{"id":"1"}')


def test_a_document_survives_bson() -> None:
    document = BSON.encode(to_document(REQUEST, ANSWER, AT)).decode()
    assert earlier_answer(REQUEST, document) == ANSWER
    assert document["_id"] == REQUEST.id


def test_a_new_request_has_no_answer() -> None:
    assert earlier_answer(REQUEST, None) is None


def test_the_same_key_for_other_content() -> None:
    document = to_document(REQUEST, ANSWER, AT)
    with pytest.raises(KeyReusedError):
        earlier_answer(IdempotentRequest(REQUEST.id, b"g" * 32), document)


def test_answers_are_kept_for_a_day() -> None:
    assert TTL_SECONDS == 86_400
