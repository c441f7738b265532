"""Queries of members by age. `minor` of a member is what the events have told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pymongo import IndexModel, UpdateOne

from services.members.core.domain import ADULT_YEARS, Member, Status
from services.members.core.store import MEMBER
from services.shared.database import Collection, Database, Document, Migration, Session

_YOUNG: Final[Document] = {"birth_year": {"$gte": 2000}}
"""People born earlier are adults: there is no need to keep them in the index."""


class AgeStore:
    def __init__(self, database: Database) -> None:
        self._members: Collection = database["members"]

    async def untold(self, now: datetime, limit: int, session: Session | None = None) -> list[Member]:
        """Active members who are adults now and were told to be minors, and minors who were not told."""
        found: list[Member] = []
        for query in untold_queries(now):
            if limit > len(found):
                rows = self._members.find(query, session=session)
                found += [MEMBER.decode(row) async for row in rows.limit(limit - len(found))]
        return found

    async def save(self, members: Sequence[Member], session: Session) -> None:
        writes = []
        for member in members:
            told: Document = {"version": member.version, "updated_at": member.updated_at}
            change: Document = {"$set": told | {"minor": True}}
            if member.minor is None:
                change = {"$set": told, "$unset": {"minor": ""}}
            writes.append(UpdateOne({"_id": member.id, "version": member.version - 1}, change))
        if writes:
            result = await self._members.bulk_write(writes, ordered=False, session=session)
            assert result.matched_count == len(writes), "what the transaction has read, it can write"


def untold_queries(now: datetime) -> tuple[Document, Document]:
    """Members who have come of age, and members of whom nothing was told."""
    last = now.year - ADULT_YEARS
    grown = {"minor": True, "birth_year": {**_YOUNG["birth_year"], "$lt": last}}
    unknown = {"minor": None, "birth_year": {"$gte": last}}
    active = {"status": Status.ACTIVE.value}
    return grown | active, unknown | active


async def _by_age(database: Database) -> None:
    """For `AgeStore.untold`."""
    keys = [("minor", 1), ("status", 1), ("birth_year", 1)]
    await database["members"].create_indexes([IndexModel(keys, partialFilterExpression=_YOUNG)])


MIGRATIONS: Final = (Migration("ages-0001", "members by age", _by_age),)
