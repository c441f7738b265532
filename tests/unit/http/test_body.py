"""Hostile and unlucky bodies: refused with 400, 413, 415 or 422, never 500."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.http.conftest import client_of
from tests.unit.http.test_problem import assert_problem

JSON_TYPE = {"Content-Type": "application/json"}


async def post(client: httpx2.AsyncClient, content: Any, headers: Any = JSON_TYPE) -> httpx2.Response:
    return await client.post("/v1/things", content=content, headers=headers)


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"name": "\\ud800"}',
        b'{"name": "\xff\xfe"}',
        b'{"name": "\xed\xa0\x80"}',
        b'{"name": "Asha", "count": NaN}',
        b'{"name": "Asha", "count": Infinity}',
        b'{"name": "Asha", "count": 1e999}',
        b'{"name": "Asha", "count": ' + b"9" * 5000 + b"}",
        b'\xef\xbb\xbf{"name": "Asha"}',
        b"{} {}",
        b"'name'",
    ],
)
async def test_malformed_json(client, content):
    document = assert_problem(await post(client, content), 400, "malformed-json")
    assert document["detail"] == "the body is not valid JSON"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"[" * 900 + b"]" * 900,
        b'{"name": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"name": "\\u0000"}',
        b'{"name": "Asha", "count": 12345678901234567890123, "count": 1.5}',
        b'{"name": "Asha", "when": "99999-01-01T00:00:00Z"}',
        b'{"name": "Asha", "when": 1e300}',
    ],
)
async def test_json_of_the_wrong_shape(client, content):
    assert_problem(await post(client, content), 422, "invalid-fields")


@pytest.mark.parametrize(
    "content",
    [
        b'{"name": "Asha", "platforms": [' + b"{}," * 20_000 + b"{}]}",
        b"[" + b"1," * 20_000 + b"1]",
        b"{" + b'"a":1,' * 20_000 + b'"name": "Asha"}',
    ],
)
async def test_more_values_than_could_be_refused_one_by_one(client, content):
    document = assert_problem(await post(client, content), 422, "invalid-fields")
    assert [error["detail"] for error in document["errors"]] == ["must have fewer than 10,000 values"]


async def test_deep_nesting_with_an_idempotency_key(client):
    content = b'{"name": ' + b"[" * 900 + b"]" * 900 + b"}"
    response = await post(client, content, {**JSON_TYPE, "Idempotency-Key": "k"})
    assert_problem(response, 422, "invalid-fields")


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json", ""],
)
async def test_other_content_types(client, content_type):
    response = await post(client, b'{"name": "Asha"}', {"Content-Type": content_type})
    assert_problem(response, 415, "unsupported-media-type")


async def test_no_content_type(client):
    assert_problem(await post(client, b'{"name": "Asha"}', None), 415, "unsupported-media-type")


async def test_no_body_at_all(client):
    assert_problem(await client.post("/v1/things"), 422, "invalid-fields")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"]
)
async def test_json_content_types(client, content_type):
    assert (await post(client, b'{"name": "Asha"}', {"Content-Type": content_type})).status_code == 201


async def test_name_is_cleaned_on_the_way_in(client):
    response = await client.post("/v1/things", json={"name": " आशा\u200b  देवी "})
    assert response.json()["name"] == "आशा देवी"


async def test_body_over_the_limit_by_its_length(client):
    response = await post(client, b'{"name": "' + b"x" * 2_000_000 + b'"}')
    assert_problem(response, 413, "content-too-large")
    assert response.headers["connection"] == "close"


async def test_body_over_the_limit_in_chunks_is_not_read_to_its_end(client):
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(200):
            sent += 65_536
            yield b"x" * 65_536

    assert_problem(await post(client, chunks()), 413, "content-too-large")
    assert sent < 2_000_000


async def test_body_just_at_the_limit(client):
    content = b'{"name": "Asha"}'.ljust(1024 * 1024)
    assert (await post(client, content)).status_code == 201


async def test_a_false_content_length_is_refused(client):
    response = await post(client, b"{}", {**JSON_TYPE, "Content-Length": "99999999999999999999999"})
    assert response.status_code in (413, 422)


async def test_a_streaming_path_has_its_own_limit(client):
    async def chunks(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * 1024 * 1024

    assert (await client.post("/imports", content=chunks(4))).json() == {"bytes": 4 * 1024 * 1024}
    assert_problem(await client.post("/imports", content=chunks(9)), 413, "content-too-large")


async def test_the_limit_is_a_setting(make_app, token):
    async with client_of(make_app(max_body=10), {"Authorization": f"Bearer {token()}"}) as client:
        assert_problem(await post(client, b'{"name": "Asha"}'), 413, "content-too-large")


@pytest.mark.parametrize("content", [b"[" * 1000, b"x"])
async def test_the_caller_is_checked_before_the_body(anonymous, content):
    assert_problem(await post(anonymous, content, {"Content-Type": "text/plain"}), 401, "unauthenticated")


async def test_a_client_that_leaves_is_no_error(make_app, token, registry):
    app = make_app()
    sent = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    headers = [
        (b"authorization", f"Bearer {token()}".encode()),
        (b"content-type", b"application/json"),
        (b"content-length", b"5"),
    ]
    await app(
        {
            "type": "http",
            "method": "POST",
            "path": "/v1/things",
            "query_string": b"",
            "headers": headers,
            "root_path": "",
        },
        receive,
        send,
    )
    assert sent == []
    labels = {"method": "POST", "route": "/v1/things", "status": "4xx"}
    assert registry.get_sample_value("sangathan_http_requests_total", labels) == 1


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=200)
    | st.text().map(lambda text: f'{{"name": "{text}"}}'.encode("utf-8", "surrogatepass"))
)
async def test_no_bytes_make_a_500(client: httpx2.AsyncClient, content: bytes):
    assert (await post(client, content)).status_code in (201, 400, 422)
