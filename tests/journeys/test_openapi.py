"""Every documented operation under generated input: no 5xx, no undocumented status, no answer off its
schema."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from infra.local.stack import LocalStack

EXAMPLES = 12
"""Requests to each operation. Hypothesis derives them from its schema, the same on every machine."""
CHECKED = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]


def insist(case: schemathesis.Case[Any], headers: dict[str, str]) -> None:
    """Each operation refuses what none takes, with a documented status; HEAD answers where GET does."""

    def call(**sent: Any) -> int:
        answer = case.call(headers=headers | sent.pop("headers", {}), timeout=10, **sent)
        case.validate_response(answer, checks=CHECKED, headers=headers)
        return answer.status_code

    # A route without a token is for whoever proves themselves otherwise: all others find nothing there.
    hidden = set() if case.operation.definition.raw.get("security") else {403, 404}
    assert call(params={"unti": "BR"}) in {422} | hidden
    assert call(headers={"Content-Encoding": "gzip"}) in {415} | hidden
    if case.method == "GET":
        assert call(data=b"{}") in {422} | hidden
        url = str(case.call(headers=headers, timeout=10).request.url)
        get, head = (httpx2.request(method, url, headers=headers) for method in ("GET", "HEAD"))
        assert head.status_code == get.status_code
        assert head.headers["content-type"] == get.headers["content-type"]
        assert head.content == b""
    elif "If-Match" not in {parameter.name for parameter in case.operation.headers}:
        assert call(headers={"If-Match": '"1"'}) in {422} | hidden


def try_with(operation: Any, examples: int, check: Callable[[schemathesis.Case[Any]], object]) -> None:
    @given(case=operation.as_strategy())
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def one(case: schemathesis.Case[Any]) -> None:
        check(case)

    one()


def hammer(url: str, token: str) -> int:
    """Test every operation, and return how many there were."""
    headers = {"Authorization": f"Bearer {token}"}
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    tried = 0
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        try_with(
            operation,
            EXAMPLES,
            lambda case: case.call_and_validate(headers=headers, checks=CHECKED, timeout=10),
        )
        try_with(operation, 1, lambda case: insist(case, headers))
        tried += 1
    return tried


@pytest.mark.heavy
@pytest.mark.timeout(600)
@pytest.mark.parametrize("service", ["members", "groups", "notifications", "analytics"])
async def test_the_api_is_what_its_openapi_says(stack: LocalStack, service: str) -> None:
    assert await asyncio.to_thread(hammer, stack.urls[service], stack.token) >= 3
