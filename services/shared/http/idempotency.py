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

from services.shared.database.idempotency import IdempotentRequest
from services.shared.http.auth import subject_of
from services.shared.http.problem import bad_request

MAX_JSON_BYTES = 1024 * 1024
"""A longer body is the file of an import: to parse it as JSON could take seconds and a gigabyte."""

_KEY = re.compile(r"[!-~]{1,255}")


class _IdempotentRequestOf:
    """A dependency: None when the caller sent no key. Put it after `require`, because the subject is part of
    the id.

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

    async def __call__(self, request: Request) -> IdempotentRequest | None:
        key = request.headers.get("idempotency-key")
        if key is None:
            return None
        if not _KEY.fullmatch(key):
            detail = "Idempotency-Key must be 1 to 255 printable ASCII characters"
            raise bad_request("invalid-idempotency-key", detail)
        scope = request.scope
        identity = orjson.dumps([subject_of(request), scope["method"], scope["path"], key])
        content = hashlib.sha256(scope["query_string"] + b"\n" + await _canonical_body(request))
        return IdempotentRequest(hashlib.sha256(identity).digest(), content.digest())


idempotent_request = _IdempotentRequestOf()

Idempotent = Annotated[IdempotentRequest | None, Depends(idempotent_request)]
"""A parameter of routes that create something."""


async def _canonical_body(request: Request) -> bytes:
    body = await request.body()
    if not body or len(body) > MAX_JSON_BYTES:
        return body
    try:
        return orjson.dumps(await request.json(), option=orjson.OPT_SORT_KEYS)
    except (ValueError, TypeError):  # not JSON, or nested too deeply for orjson
        return body
