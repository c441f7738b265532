"""The record of merges, and what undoing them needs.

`merges`: `Merge`, kept for good: it holds ids alone. `merge_traces`: `{_id: id of the merge, members, trace,
expires_at}`, with names and contacts, sealed; deleted when the merge can no longer be undone, or when one of
the members is erased.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pymongo import IndexModel

from services.members.merges.records import Merge
from services.shared.database import Codec, Collection, Database, Document, Migration, Session, create

_MERGE: Final = Codec(Merge, id_field="id", omit_none=("undone_at", "undone_by"))


class MergeStore:
    def __init__(self, database: Database) -> None:
        self._merges: Collection = database["merges"]
        self._traces: Collection = database["merge_traces"]

    async def find(self, merge_id: str, session: Session | None = None) -> Merge | None:
        row = await self._merges.find_one({"_id": merge_id}, session=session)
        return _MERGE.decode(row) if row else None

    async def newest(self, survivor: str, other: str, session: Session) -> Merge | None:
        """The last merge of `other` into `survivor` that was not undone."""
        query = {"other": other, "survivor": survivor, "undone_at": None}
        row = await self._merges.find_one(query, sort=[("_id", -1)], session=session)
        return _MERGE.decode(row) if row else None

    async def add(self, merge: Merge, trace: bytes, expires_at: datetime, session: Session) -> None:
        await self._merges.insert_one(_MERGE.encode(merge), session=session)
        members = [merge.survivor, merge.other]
        row = {"_id": merge.id, "members": members, "trace": trace, "expires_at": expires_at}
        await self._traces.insert_one(row, session=session)

    async def traces(self, survivor: str, session: Session) -> dict[str, bytes]:
        """The sealed traces of the merges into that member that can be undone, by id, the oldest first."""
        query = {"survivor": survivor, "undone_at": None}
        rows = self._merges.find(query, {"_id": 1}, session=session).sort([("at", 1), ("_id", 1)])
        ids = [row["_id"] async for row in rows]
        found = {row["_id"]: row async for row in self._traces.find({"_id": {"$in": ids}}, session=session)}
        return {id_: bytes(found[id_]["trace"]) for id_ in ids if id_ in found}

    async def set_trace(self, merge_id: str, trace: bytes, session: Session) -> None:
        await self._traces.update_one({"_id": merge_id}, {"$set": {"trace": trace}}, session=session)

    async def undo(self, merge: Merge, session: Session) -> None:
        """Record that the merge was undone; its trace is needed no longer."""
        fields = {"undone_at": merge.undone_at, "undone_by": merge.undone_by}
        await self._merges.update_one({"_id": merge.id}, {"$set": fields}, session=session)
        await self._traces.delete_one({"_id": merge.id}, session=session)


_TEXT: Final[Document] = {"bsonType": "string"}
_DATE: Final[Document] = {"bsonType": "date"}


async def _create(database: Database) -> None:
    await create(
        database,
        "merges",
        required={"survivor": _TEXT, "other": _TEXT, "at": _DATE, "by": _TEXT},
        indexes=[IndexModel("other"), IndexModel("survivor")],
    )
    await create(
        database,
        "merge_traces",
        required={"trace": {"bsonType": "binData"}, "expires_at": _DATE},
        indexes=[IndexModel("expires_at", expireAfterSeconds=0), IndexModel("members")],
    )


MIGRATIONS: Final = (Migration("merges-0001", "merges, merge_traces", _create),)
