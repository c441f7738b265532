"""`Idempotency-Key`: the first answer again instead of the effect again (draft-ietf-httpapi-idempotency-key-header).

The route inserts `to_document(...)` into the collection `idempotency` in the same transaction as its effect.
Two requests racing with one key then meet at the unique `_id`: the loser's transaction aborts, and it looks
the answer up. A request is the same when subject, method, path and key are; it must then have the same
query and the same JSON body (member order and white space aside).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from services.shared.http.auth import subject_of
from services.shared.http.problem import Problem, bad_request

COLLECTION = "idempotency"
TTL_SECONDS = 24 * 3600
INDEX: Mapping[str, Any] = {"keys": [("at", 1)], "expireAfterSeconds": TTL_SECONDS}
"""`collection.create_index(**INDEX)`: MongoDB forgets an answer within a minute after 24 h."""

_KEY = re.compile(r"[!-~]{1,255}")


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """Two SHA-256 digests (32 bytes): which request this is, and what it asks for."""

    id: bytes
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered. `body` is whatever bytes the service chooses to keep (sealed, if they are personal)."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def response(self) -> Response:
        """The same answer again, marked as such."""
        headers = {**self.headers, "Idempotent-Replayed": "true"}
        return Response(self.body, self.status, headers=headers, media_type="application/json")


class _IdempotentRequestOf:
    """Dependency: None when the caller sent no key; after `require`, because the subject is part of the identity.

    Raises:
        Problem: 400 for a key that is empty, longer than 255 or not printable ASCII.
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
        asked = hashlib.sha256(scope["query_string"] + b"\n" + await _canonical_body(request))
        return IdempotentRequest(hashlib.sha256(identity).digest(), asked.digest())


idempotent_request = _IdempotentRequestOf()

Idempotent = Annotated[IdempotentRequest | None, Depends(idempotent_request)]
"""Parameter of a route that creates."""


async def _canonical_body(request: Request) -> bytes:
    body = await request.body()
    if not body:
        return body
    try:
        return orjson.dumps(await request.json(), option=orjson.OPT_SORT_KEYS)
    except (ValueError, TypeError):  # not JSON, or nested deeper than orjson writes
        return body


def to_document(request: IdempotentRequest, answer: Answer, at: datetime) -> dict[str, Any]:
    return {
        "_id": request.id,
        "fingerprint": request.fingerprint,
        "status": answer.status,
        "headers": dict(answer.headers),
        "body": answer.body,
        "at": at,
    }


def from_document(document: Mapping[str, Any]) -> Answer:
    return Answer(document["status"], document["headers"], bytes(document["body"]))


def check(request: IdempotentRequest, document: Mapping[str, Any] | None) -> Answer | None:
    """The answer to repeat; None when `document` (found by `request.id`) is None: the request is new.

    Raises:
        Problem: 422 when the key was used for another body.
    """
    if document is None:
        return None
    if bytes(document["fingerprint"]) != request.fingerprint:
        detail = "the key was used for a request with other content"
        raise Problem(422, "idempotency-key-reused", "Idempotency key reused", detail)
    return from_document(document)
