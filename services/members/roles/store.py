"""Terms and their history.

`role_terms`: `{_id, member_id, role, unit, since, until?, due_at?}`, those that have not ended; `due_at` is
when the next one begins or ends. `role_history`: `RoleRecord`, one for each change, never changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pymongo import IndexModel

from services.members.core.term_store import TERM, TermStore
from services.members.core.terms import Term
from services.shared.contracts.vocabulary import subtree
from services.shared.database import Collection, Database, Document, Migration, create


class RoleStore(TermStore):
    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._members: Collection = database["members"]

    async def due(self, now: datetime, limit: int) -> list[str]:
        """Members with a term that begins or ended by `now`, the most overdue first."""
        rows = self._terms.find({"due_at": {"$lte": now}}, {"member_id": 1}).sort("due_at", 1).limit(limit)
        return list(dict.fromkeys([row["member_id"] async for row in rows]))

    async def oldest_due(self) -> datetime | None:
        row = await self._terms.find_one({"due_at": {"$exists": True}}, {"due_at": 1}, sort=[("due_at", 1)])
        return row["due_at"] if row else None

    async def forget(self, member_id: str) -> None:
        """Delete what was written about a member while they were erased."""
        for collection in (self._terms, self._history):
            await collection.delete_many({"member_id": member_id})

    async def in_effect(
        self,
        unit: str,
        *,
        below: bool,
        role: str | None,
        now: datetime,
        after: tuple[str, str] | None,
        limit: int,
    ) -> list[Term]:
        """Terms in the unit, or also `below` it, in the order of (unit, id), after the position `after`."""
        units = subtree(unit) if below else {"$eq": unit}
        conditions: list[Document] = [
            {"unit": units, "since": {"$lte": now}},
            {"$or": [{"until": None}, {"until": {"$gt": now}}]},
        ]
        if role is not None:
            conditions.append({"role": role})
        if after is not None:
            at, id_ = after
            # The first condition bounds the index, which the second one alone would not.
            conditions.append({"unit": {"$gte": at}})
            conditions.append({"$or": [{"unit": {"$gt": at}}, {"unit": at, "_id": {"$gt": id_}}]})
        rows = self._terms.find({"$and": conditions}).sort([("unit", 1), ("_id", 1)]).limit(limit)
        return [TERM.decode(row) for row in await rows.to_list(limit)]

    async def people(self, member_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """`{member id: (name, unit)}` of those who are active."""
        query = {"_id": {"$in": list(member_ids)}, "status": "active"}
        rows = self._members.find(query, {"name": 1, "unit": 1})
        return {row["_id"]: (row["name"], row["unit"]) async for row in rows}


_TEXT: Final[Document] = {"bsonType": "string"}
_DATE: Final[Document] = {"bsonType": "date"}
_WHAT: Final[Document] = {"member_id": _TEXT, "role": _TEXT, "unit": _TEXT, "since": _DATE}


async def _create(database: Database) -> None:
    await create(
        database,
        "role_terms",
        required=_WHAT,
        indexes=[
            IndexModel([("member_id", 1), ("role", 1), ("unit", 1)], unique=True),
            IndexModel([("unit", 1), ("_id", 1)]),
            IndexModel("due_at", sparse=True),
        ],
    )
    await create(
        database,
        "role_history",
        required={**_WHAT, "change": _TEXT, "at": _DATE},
        indexes=[IndexModel([("member_id", 1), ("at", 1)])],
    )


MIGRATIONS: Final = (Migration("roles-0001", "role_terms, role_history", _create),)
