"""Answers kept for repeated requests (draft-ietf-httpapi-idempotency-key-header), whoever takes the requests.

The effect's transaction also inserts `to_document(...)` into the collection `idempotency`. Two requests racing with
one key then meet at the unique `_id`: the loser's transaction aborts, and it looks the answer up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pymongo import IndexModel

from services.shared.database.migrations import Migration, create
from services.shared.database.mongo import Database, Document
from services.shared.errors import KeyReusedError

COLLECTION: Final = "idempotency"
TTL_SECONDS: Final = 24 * 3600
"""MongoDB forgets an answer within a minute after this time."""


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """Two SHA-256 digests (32 bytes): which request this is, and what it asks for."""

    id: bytes
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to be given again. `body` is whatever bytes the service keeps (sealed, if they are personal)."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def to_document(request: IdempotentRequest, answer: Answer, at: datetime) -> Document:
    return {
        "_id": request.id,
        "fingerprint": request.fingerprint,
        "status": answer.status,
        "headers": dict(answer.headers),
        "body": answer.body,
        "at": at,
    }


def earlier_answer(request: IdempotentRequest, document: Mapping[str, Any] | None) -> Answer | None:
    """The answer to repeat; None when `document` (found by `request.id`) is None: the request is new.

    Raises: `KeyReusedError` when the key was used for another body.
    """
    if document is None:
        return None
    if bytes(document["fingerprint"]) != request.fingerprint:
        raise KeyReusedError
    return Answer(document["status"], document["headers"], bytes(document["body"]))


async def _create(database: Database) -> None:
    await create(database, COLLECTION, indexes=[IndexModel("at", expireAfterSeconds=TTL_SECONDS)])


MIGRATIONS: Final = (Migration("idempotency-0001", "answers to repeated requests", _create),)
