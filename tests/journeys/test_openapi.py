"""Every documented operation under generated input: no 5xx, no undocumented status, no answer off its
schema."""

from __future__ import annotations

import asyncio
from typing import Any

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

EXAMPLES = 25
CHECKED = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]


def hammer(url: str, token: str) -> int:
    """Test every operation, and return how many there were."""
    headers = {"Authorization": f"Bearer {token}"}
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    tried = 0
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        def one(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(headers=headers, checks=CHECKED, timeout=10)

        one()
        tried += 1
    return tried


@pytest.mark.heavy
@pytest.mark.timeout(600)
@pytest.mark.parametrize("service", ["members", "groups", "notifications", "analytics"])
async def test_the_api_is_what_its_openapi_says(stack: LocalStack, service: str) -> None:
    assert await asyncio.to_thread(hammer, stack.urls[service], stack.token) >= 3
