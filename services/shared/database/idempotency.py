"""Stored answers to idempotent requests (draft-ietf-httpapi-idempotency-key-header).

The transaction of a request's effect also inserts `to_document(...)` into the collection `idempotency`. When
two requests race with one key, the unique `_id` aborts the transaction of the second, which then reads the
first one's answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pymongo import IndexModel

from services.shared.clock import Clock
from services.shared.database.migrations import Migration, create
from services.shared.database.mongo import Collection, Database, Document, Session
from services.shared.errors import KeyReusedError

COLLECTION: Final = "idempotency"
TTL_SECONDS: Final = 24 * 3600
"""Lifetime of an answer; MongoDB deletes it within a minute after that."""


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """Two SHA-256 digests (32 bytes each): `id` identifies the request, `fingerprint` its content."""

    id: bytes
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to repeat. `body` holds the bytes that the service stored, sealed if they are personal."""

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
    """The answer to repeat, or None when `document` (found by `request.id`) is None, so that the request is
    new.

    Raises: `KeyReusedError` when the key was used for other content, or when what it was used for has been
    erased: then the row has an empty fingerprint.
    """
    if document is None:
        return None
    if not document["fingerprint"]:
        raise KeyReusedError("what the key was used for has been erased")
    if bytes(document["fingerprint"]) != request.fingerprint:
        raise KeyReusedError
    return Answer(document["status"], document["headers"], bytes(document["body"]))


class MadeIds:
    """Answers that are the id of what a request made, such as a job: it is looked up when the request is
    repeated, and answered as it is then."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._answers: Collection = database[COLLECTION]
        self._clock = clock

    async def earlier(self, request: IdempotentRequest | None) -> str | None:
        """The id that the request made before. Raises: `KeyReusedError`."""
        if request is None:
            return None
        answer = earlier_answer(request, await self._answers.find_one({"_id": request.id}))
        return answer.body.decode() if answer else None

    async def remember(self, request: IdempotentRequest | None, made: str, session: Session) -> bool:
        """Keep `made` as the request's answer; False when it has another, made by the same request sent at
        the same time."""
        if request is None:
            return True
        row = to_document(request, Answer(202, {}, made.encode()), self._clock.now())
        # Not an insert: a duplicate key would abort the caller's transaction.
        kept = await self._answers.find_one_and_update(
            {"_id": request.id}, {"$setOnInsert": row}, upsert=True, return_document=True, session=session
        )
        return bytes(kept["body"]) == made.encode()


async def _create(database: Database) -> None:
    await create(database, COLLECTION, indexes=[IndexModel("at", expireAfterSeconds=TTL_SECONDS)])


MIGRATIONS: Final = (Migration("idempotency-0001", "answers to repeated requests", _create),)
