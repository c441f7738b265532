"""Idempotency keys: when two requests are the same, and what is kept of an answer."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx2
import pytest
from bson import BSON

from services.shared.http.idempotency import (
    INDEX,
    Answer,
    IdempotentRequest,
    check,
    from_document,
    to_document,
)
from services.shared.http.problem import Problem
from tests.unit.http.conftest import client_of
from tests.unit.http.test_problem import assert_problem

AT = datetime(2026, 7, 1, tzinfo=UTC)
REQUEST = IdempotentRequest(b"i" * 32, b"f" * 32)
ANSWER = Answer(201, {"ETag": '"1"', "Location": "/v1/things/1"}, b'{"id":"1"}')


def test_a_document_survives_bson():
    document = BSON.encode(to_document(REQUEST, ANSWER, AT)).decode()
    assert from_document(document) == ANSWER
    assert check(REQUEST, document) == ANSWER
    assert document["_id"] == REQUEST.id


def test_a_new_request_has_no_answer():
    assert check(REQUEST, None) is None


def test_the_same_key_for_other_content():
    document = to_document(REQUEST, ANSWER, AT)
    with pytest.raises(Problem) as refusal:
        check(IdempotentRequest(REQUEST.id, b"g" * 32), document)
    assert refusal.value.status == 422
    assert refusal.value.slug == "idempotency-key-reused"


def test_a_replayed_answer_is_the_same_answer():
    response = ANSWER.response()
    assert response.status_code == 201
    assert response.body == ANSWER.body
    assert response.headers["etag"] == '"1"'
    assert response.headers["idempotent-replayed"] == "true"


def test_answers_are_kept_for_a_day():
    assert INDEX == {"keys": [("at", 1)], "expireAfterSeconds": 86_400}


async def identity(client: httpx2.AsyncClient, key: str = "k") -> str:
    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
    response = await client.post("/v1/things", content=b'{"name": "Asha"}', headers=headers)
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


async def test_identity_depends_on_subject_and_key(client, make_app, token, registry):
    mine = await identity(client)
    assert await identity(client) == mine
    assert await identity(client, key="other") != mine
    from prometheus_client import CollectorRegistry

    app = make_app(registry=CollectorRegistry())
    async with client_of(app, {"Authorization": f"Bearer {token(sub='user-2')}"}) as other:
        assert await identity(other) != mine


async def test_fingerprint_ignores_order_and_space_but_nothing_else():
    from starlette.requests import Request

    from services.shared.http.body import JsonRequest
    from services.shared.http.idempotency import idempotent_request

    async def fingerprint(body: bytes, query: bytes = b"") -> bytes:
        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/x",
            "query_string": query,
            "headers": [(b"idempotency-key", b"key")],
        }
        request: Request = JsonRequest(scope, receive)
        found = await idempotent_request(request)
        assert found is not None
        assert len(found.id) == len(found.fingerprint) == 32
        return found.fingerprint

    base = await fingerprint(b'{"a": 1, "b": [1, 2]}')
    assert await fingerprint(b'{"b":[1,2],"a":1}') == base
    assert await fingerprint(b'{"b":[2,1],"a":1}') != base
    assert await fingerprint(b'{"a": 1, "b": [1, 2]}', b"dry_run=true") != base
    assert await fingerprint(b"") != base
    assert await fingerprint(b"not json") != await fingerprint(b"not json!")


async def test_no_key_no_request(client):
    response = await client.post("/v1/things", json={"name": "Asha"})
    assert response.json()["id"] == "1"


@pytest.mark.parametrize("bad", ["", " ", "a b", "x" * 256, "é", "\t"])
async def test_malformed_keys(client, bad):
    headers = {"Idempotency-Key": bad.encode("latin-1")}
    response = await client.post("/v1/things", json={"name": "Asha"}, headers=headers)
    assert_problem(response, 400, "invalid-idempotency-key")


async def test_the_longest_key(client):
    assert await identity(client, key="~" * 255)
