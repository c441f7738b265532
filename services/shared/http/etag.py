"""Optimistic concurrency: `ETag` is the version in quotes, and `If-Match` names the version that a change is
based on (RFC 9110, 13.1).

`IfMatch` requires it, `IfMatchIfSent` checks it when it is sent, and `Preconditions` also take
`If-None-Match`. Every other route that changes something refuses these headers (`strict`).

`If-Match` is compared strongly, so a weak tag never matches (412). Where it names a version, `*` counts as
missing (428), because it would let a caller change a version it has not read. Several tags, or anything but
an entity tag, are refused (400).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends
from starlette.requests import Request

from services.shared.errors import StaleVersionError
from services.shared.http.problem import Problem, bad_request

_OURS = re.compile(r'"(0|[1-9][0-9]{0,17})"')
_ENTITY_TAG = re.compile(r'(W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_ANY: Final = "*"
_TEXT: Final = {"anyOf": [{"type": "string"}, {"type": "null"}]}


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
    if value in ("", _ANY):
        detail = 'send If-Match with the ETag of the version you read, such as "7"'
        raise Problem(428, "if-match-required", "Precondition required", detail)
    if match := _OURS.fullmatch(value):
        return int(match[1])
    if _ENTITY_TAG.fullmatch(value):
        raise StaleVersionError
    raise bad_request("invalid-if-match", 'If-Match must be one entity tag, such as "7"')


def _parameter(
    name: str, schema: dict[str, Any], description: str, *, required: bool = False
) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": required, "description": description, "schema": schema}


class _ExpectedVersion:
    """A dependency: `expected_version` of the request's `If-Match`."""

    openapi_parameters = (
        _parameter(
            "If-Match",
            {"type": "string", "pattern": '^"(0|[1-9][0-9]{0,17})"$'},
            "ETag of the version this change is based on.",
            required=True,
        ),
    )

    async def __call__(self, request: Request) -> int:
        return expected_version(request.headers.get("if-match"))


class _ExpectedVersionIfSent:
    """A dependency: `expected_version` of `If-Match`; None without that header."""

    openapi_parameters = (_parameter("If-Match", _TEXT, "ETag of the version this change is based on."),)

    async def __call__(self, request: Request) -> int | None:
        value = request.headers.get("if-match")
        return None if value is None else expected_version(value)


@dataclass(frozen=True, slots=True)
class Conditions:
    """Both preconditions as they were sent; None where one was not."""

    if_match: str | None
    if_none_match: str | None

    def check(self, version: int | None) -> None:
        """Check them against the present `version`; None: there is nothing yet.

        Raises: `StaleVersionError`; `Problem`, 400, when a header is not one entity tag or `*`.
        """
        if self.if_match is not None and not _names(self.if_match, version, "If-Match"):
            raise StaleVersionError
        # RFC 9110, 13.1.2 compares weakly here.
        if self.if_none_match is not None and _names(
            self.if_none_match.removeprefix("W/"), version, "If-None-Match"
        ):
            raise StaleVersionError


def _names(value: str, version: int | None, header: str) -> bool:
    value = value.strip()
    if value != _ANY and not _ENTITY_TAG.fullmatch(value):
        detail = f'{header} must be * or one entity tag, such as "7"'
        raise bad_request(f"invalid-{header.lower()}", detail)
    return version is not None and value in (_ANY, etag(version))


class _Conditions:
    """A dependency: the request's `Conditions`."""

    openapi_parameters = (
        _parameter("If-Match", _TEXT, "ETag of the version this change is based on; `*`: it must exist."),
        _parameter("If-None-Match", _TEXT, "`*`: it must not exist yet."),
    )

    async def __call__(self, request: Request) -> Conditions:
        headers = request.headers
        return Conditions(headers.get("if-match"), headers.get("if-none-match"))


IfMatch = Annotated[int, Depends(_ExpectedVersion())]
"""A parameter of routes that change something: the expected version."""

IfMatchIfSent = Annotated[int | None, Depends(_ExpectedVersionIfSent())]
"""A parameter of routes that also work without: the expected version, if the caller names one."""

Preconditions = Annotated[Conditions, Depends(_Conditions())]
"""A parameter of routes that create or change something at a path that the caller chooses."""
