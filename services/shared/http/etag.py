"""Optimistic concurrency: `ETag` is the version in quotes, and `If-Match` names the version that a change is
based on.

RFC 9110, 13.1.1 requires strong comparison, so a weak tag never matches (412). `*` counts as missing (428),
because it would let a caller change a version it has not read. Several tags, or anything but an entity tag,
are refused (400).
"""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from services.shared.errors import StaleVersionError
from services.shared.http.problem import Problem, bad_request

_OURS = re.compile(r'"(0|[1-9][0-9]{0,17})"')
_ENTITY_TAG = re.compile(r'(W/)?"[\x21\x23-\x7e\x80-\xff]*"')


def etag(version: int) -> str:
    """`etag(7) == '"7"'`."""
    return f'"{version}"'


def expected_version(if_match: str | None) -> int:
    """The version that `If-Match` names.

    Raises:
        Problem: 428 when missing or `*`, 400 when it is not an entity tag.
        StaleVersionError: for a weak or foreign tag.
    """
    value = (if_match or "").strip()
    if value in ("", "*"):
        detail = 'send If-Match with the ETag of the version you read, such as "7"'
        raise Problem(428, "if-match-required", "Precondition required", detail)
    if match := _OURS.fullmatch(value):
        return int(match[1])
    if _ENTITY_TAG.fullmatch(value):
        raise StaleVersionError
    raise bad_request("invalid-if-match", 'If-Match must be one entity tag, such as "7"')


class _ExpectedVersion:
    """A dependency: `expected_version` of the request's `If-Match`."""

    openapi_parameters = (
        {
            "name": "If-Match",
            "in": "header",
            "required": True,
            "description": "ETag of the version this change is based on.",
            "schema": {"type": "string", "pattern": '^"(0|[1-9][0-9]{0,17})"$'},
        },
    )

    async def __call__(self, request: Request) -> int:
        return expected_version(request.headers.get("if-match"))


IfMatch = Annotated[int, Depends(_ExpectedVersion())]
"""A parameter of routes that change something: the expected version."""
