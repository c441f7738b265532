"""`Idempotency-Key`: a repeated request gets the first answer, without a second effect
(draft-ietf-httpapi-idempotency-key-header).

`services.shared.database.idempotency` stores the answers. Two requests are the same if subject, method, path
and key are equal; they must then have the same query and the same JSON body (ignoring member order and white
space).
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated

import orjson
from fastapi import Depends
from starlette.requests import Request
from starlette.types import Scope

from services.shared.database.idempotency import IdempotentRequest
from services.shared.http.auth import subject_of
from services.shared.http.problem import bad_request

MAX_JSON_BYTES = 1024 * 1024
"""A longer body is the file of an import: to parse it as JSON could take seconds and a gigabyte."""

_KEY = re.compile(r"[!-~]{1,255}")


class IdempotencyKey:
    """The key of one request, whose content is added as it comes."""

    def __init__(self, scope: Scope, subject: str, key: str) -> None:
        self._id = hashlib.sha256(orjson.dumps([subject, scope["method"], scope["path"], key]))
        self._content = hashlib.sha256(scope["query_string"] + b"\n")

    def add(self, piece: bytes) -> None:
        self._content.update(piece)

    def request(self) -> IdempotentRequest:
        """The request, of which nothing more comes."""
        return IdempotentRequest(self._id.digest(), self._content.digest())


class _KeyOf:
    """A dependency that leaves the body unread: None when the caller sent no key. Put it after `require`,
    because the subject is part of the id.

    Raises:
        Problem: 400 for a key that is empty, longer than 255 characters or not printable ASCII.
    """

    openapi_parameters = (
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "Makes the request safe to repeat for 24 hours.",
            "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
        },
    )

    async def __call__(self, request: Request) -> IdempotencyKey | None:
        key = request.headers.get("idempotency-key")
        if key is None:
            return None
        if not _KEY.fullmatch(key):
            detail = "Idempotency-Key must be 1 to 255 printable ASCII characters"
            raise bad_request("invalid-idempotency-key", detail)
        return IdempotencyKey(request.scope, subject_of(request), key)


class _IdempotentRequestOf:
    """A dependency that reads the body, which is JSON: None when the caller sent no key.

    Raises: as `_KeyOf`.
    """

    openapi_parameters = _KeyOf.openapi_parameters

    async def __call__(self, request: Request) -> IdempotentRequest | None:
        key = await idempotency_key(request)
        if key is None:
            return None
        key.add(await _canonical_body(request))
        return key.request()


idempotency_key = _KeyOf()
idempotent_request = _IdempotentRequestOf()

Idempotent = Annotated[IdempotentRequest | None, Depends(idempotent_request)]
"""A parameter of routes that create something."""
IdempotentFile = Annotated[IdempotencyKey | None, Depends(idempotency_key)]
"""A parameter of routes that take a long body: they add it to the key as it comes."""


async def _canonical_body(request: Request) -> bytes:
    body = await request.body()
    if not body or len(body) > MAX_JSON_BYTES:
        return body
    try:
        return orjson.dumps(await request.json(), option=orjson.OPT_SORT_KEYS)
    except (ValueError, TypeError):  # not JSON, or nested too deeply for orjson
        return body
