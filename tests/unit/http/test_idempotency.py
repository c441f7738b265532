"""Idempotency keys: when two requests count as the same."""

from __future__ import annotations

import httpx2
import pytest

from tests.unit.http.conftest import client_of
from tests.unit.http.test_problem import assert_problem


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
    from services.shared.http.idempotency import MAX_JSON_BYTES, idempotent_request

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
    # The file of an import is not parsed: that took seconds for one that is JSON.
    file = b"[" + b"1," * MAX_JSON_BYTES + b"1]"
    assert await fingerprint(file) != await fingerprint(file + b" ")


async def test_without_a_key_requests_are_not_idempotent(client):
    response = await client.post("/v1/things", json={"name": "Asha"})
    assert response.json()["id"] == "1"


@pytest.mark.parametrize("bad", ["", " ", "a b", "x" * 256, "é", "\t"])
async def test_malformed_keys(client, bad):
    headers = {"Idempotency-Key": bad.encode("latin-1")}
    response = await client.post("/v1/things", json={"name": "Asha"}, headers=headers)
    assert_problem(response, 400, "invalid-idempotency-key")


async def test_the_longest_key(client):
    assert await identity(client, key="~" * 255)
