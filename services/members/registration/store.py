"""Answers to registrations with an `Idempotency-Key`: rows of the platform's collection `idempotency`.

Beside the platform's fields each has `member`, the document that its request made: the answer is written anew
from it, which saves sealing the contact a second time.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from services.members.core.store import unique
from services.shared.database import Collection, Database, Document, Session
from services.shared.database.idempotency import COLLECTION, Answer, IdempotentRequest, to_document

_CREATED: Final = Answer(201, {}, b"")


class AnswerStore:
    def __init__(self, database: Database) -> None:
        self._answers: Collection = database[COLLECTION]

    async def get(self, id_: bytes) -> Document | None:
        return await self._answers.find_one({"_id": id_})

    async def find(self, ids: Iterable[bytes], session: Session) -> dict[bytes, Document]:
        if not (asked := list(ids)):
            return {}
        return {row["_id"]: row async for row in self._answers.find({"_id": {"$in": asked}}, session=session)}

    async def insert(self, answers: Iterable[Document | None], session: Session) -> None:
        """Raises: `DuplicateError` when a request with the same key has just been answered."""
        if documents := [answer for answer in answers if answer is not None]:
            with unique():
                await self._answers.insert_many(documents, session=session)


def answer_of(request: IdempotentRequest | None, member: Document, now: datetime) -> Document | None:
    """The row for a request that made `member`; None for one without a key."""
    return {**to_document(request, _CREATED, now), "member": member} if request else None
