"""Queries of the tree."""

from __future__ import annotations

from collections.abc import Sequence

from pymongo import ASCENDING

from services.groups.core.domain import Group, Unit
from services.groups.core.store import GROUPS, UNITS
from services.shared.clock import Clock
from services.shared.database import Database, Document, Session
from services.shared.database.idempotency import (
    COLLECTION,
    Answer,
    IdempotentRequest,
    earlier_answer,
    to_document,
)


class TreeStore:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._units = database["units"]
        self._groups = database["groups"]
        self._answers = database[COLLECTION]
        self._clock = clock

    async def children(self, parent: str, after: str | None, limit: int) -> list[Unit]:
        """The units directly below, in the order of their codes."""
        query: Document = {"parent": parent}
        if after is not None:
            query["_id"] = {"$gt": after}
        rows = self._units.find(query).sort("_id", ASCENDING).limit(limit)
        return [UNITS.decode(row) async for row in rows]

    async def groups_of(self, units: Sequence[str], session: Session) -> list[Group]:
        """All groups of these units themselves, in no order."""
        rows = self._groups.find({"unit": {"$in": list(units)}}, session=session)
        return [GROUPS.decode(row) async for row in rows]

    async def earlier_job(self, request: IdempotentRequest) -> str | None:
        """The id of the job that the request added before. Raises: `KeyReusedError`."""
        answer = earlier_answer(request, await self._answers.find_one({"_id": request.id}))
        return answer.body.decode() if answer else None

    async def remember_job(self, request: IdempotentRequest, job_id: str, session: Session) -> str:
        """Keep the job as the request's answer, unless it has one; the id of the job that it has then."""
        row = to_document(request, Answer(202, {}, job_id.encode()), self._clock.now())
        # Not an insert: a duplicate key would abort the caller's transaction.
        kept = await self._answers.find_one_and_update(
            {"_id": request.id}, {"$setOnInsert": row}, upsert=True, return_document=True, session=session
        )
        return bytes(kept["body"]).decode()
