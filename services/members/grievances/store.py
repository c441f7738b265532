"""`grievances`: the fields of `Grievance`, `sealed` (its `Words`, bound to its id), and `within`, by which
lists find it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pymongo import IndexModel

from services.members.core.within import within
from services.members.grievances.domain import Grievance, GrievanceState, Words
from services.shared.database import Codec, Collection, Database, Document, Migration, Session, create
from services.shared.encryption import Ciphertext
from services.shared.identity import ALL_UNITS

COLLECTION: Final = "grievances"
_GRIEVANCE: Final = Codec(Grievance, id_field="id", omit_none=("member_id", "answered_at", "closed_at"))
WORDS: Final = Codec(Words, omit_none=("answer",))
_BY_MEMBER: Final = [("member_id", 1), ("_id", 1)]
_BY_UNIT: Final = [("within", 1), ("_id", 1)]
_BY_STATE: Final = [("within", 1), ("state", 1), ("_id", 1)]
_OPEN: Final = {"state": GrievanceState.OPEN.value}


@dataclass(frozen=True, slots=True)
class Stored:
    grievance: Grievance
    sealed: Ciphertext


def _document(grievance: Grievance, sealed: Ciphertext) -> Document:
    return {**_GRIEVANCE.encode(grievance), "within": within(grievance.unit), "sealed": sealed}


class GrievanceStore:
    def __init__(self, database: Database) -> None:
        self._grievances: Collection = database[COLLECTION]

    async def find(self, id_: str, session: Session | None = None) -> Stored | None:
        row = await self._grievances.find_one({"_id": id_}, session=session)
        return Stored(_GRIEVANCE.decode(row), row["sealed"]) if row else None

    async def add(self, grievance: Grievance, sealed: Ciphertext, session: Session) -> None:
        await self._grievances.insert_one(_document(grievance, sealed), session=session)

    async def replace(self, grievance: Grievance, sealed: Ciphertext, session: Session) -> None:
        document = _document(grievance, sealed)
        await self._grievances.replace_one({"_id": grievance.id}, document, session=session)

    async def page(
        self, root: str | None, state: str | None, member_id: str | None, after: str | None, limit: int
    ) -> list[Grievance]:
        """At most `limit` after the id `after`, the oldest first, without their words."""
        query: Document = {"within": root or ALL_UNITS}
        index = _BY_UNIT
        if state is not None:
            query["state"], index = state, _BY_STATE
        if member_id is not None:
            query["member_id"], index = member_id, _BY_MEMBER
        if after is not None:
            query["_id"] = {"$gt": after}
        rows: Any = self._grievances.find(query, {"sealed": 0}).hint(index).sort("_id", 1).limit(limit)
        return [_GRIEVANCE.decode(row) for row in await rows.to_list(limit)]

    async def overdue(self, now: datetime) -> int:
        return await self._grievances.count_documents({**_OPEN, "due_at": {"$lt": now}})


async def _create(database: Database) -> None:
    await create(
        database,
        COLLECTION,
        required={
            "unit": {"bsonType": "string"},
            "state": {"enum": [state.value for state in GrievanceState]},
            "due_at": {"bsonType": "date"},
            "sealed": {"bsonType": "binData"},
        },
        indexes=[
            IndexModel(_BY_MEMBER),
            IndexModel(_BY_UNIT),
            IndexModel(_BY_STATE),
            IndexModel("due_at", partialFilterExpression=_OPEN),
        ],
    )


MIGRATIONS: Final = (Migration("grievances-0001", "grievances", _create),)
