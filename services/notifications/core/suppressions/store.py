"""`suppressions {_id: <channel>:<fingerprint>, ...Suppression}`: no address, and no end."""

from __future__ import annotations

from collections.abc import Collection as Many
from collections.abc import Sequence
from typing import Final

from pymongo import IndexModel, ReplaceOne

from services.notifications.core.suppressions.domain import INFERRED, Suppression
from services.shared.contracts.vocabulary import subtree
from services.shared.database import Codec, Collection, Database, Document, Migration, Session, create

SUPPRESSIONS: Final = "suppressions"
_ENTRY: Final = Codec(Suppression, id_field="id", omit_none=("member_id", "unit", "code"))


class SuppressionStore:
    def __init__(self, database: Database) -> None:
        self._entries: Collection = database[SUPPRESSIONS]

    async def by_id(self, ids: Many[str], session: Session | None = None) -> dict[str, Suppression]:
        if not ids:
            return {}
        found = self._entries.find({"_id": {"$in": list(ids)}}, session=session)
        return {row["_id"]: _ENTRY.decode(row) async for row in found}

    async def save(self, entries: Sequence[Suppression], session: Session) -> None:
        if entries:
            writes = [ReplaceOne({"_id": e.id}, _ENTRY.encode(e), upsert=True) for e in entries]
            await self._entries.bulk_write(writes, ordered=False, session=session)

    async def inferred(self, root: str | None, after: str | None, limit: int) -> list[Suppression]:
        """Entries that wait for a look, in the order of id. Without a unit they are for whoever sees all."""
        query: Document = {"via": INFERRED, "purposes.0": {"$exists": True}}
        if root is not None:
            query["unit"] = subtree(root)
        if after is not None:
            query["_id"] = {"$gt": after}
        rows = await self._entries.find(query).sort("_id", 1).limit(limit).to_list(limit)
        return [_ENTRY.decode(row) for row in rows]

    async def count_inferred(self) -> int:
        return await self._entries.count_documents({"via": INFERRED, "purposes.0": {"$exists": True}})


async def _suppressions(database: Database) -> None:
    required: Document = {
        "channel": {"bsonType": "string"},
        "purposes": {"bsonType": "array"},
        "via": {"bsonType": "string"},
        "at": {"bsonType": "date"},
    }
    indexes = [
        # inferred, count_inferred
        IndexModel([("via", 1), ("_id", 1)]),
        # an erasure
        IndexModel("member_id", sparse=True),
    ]
    await create(database, SUPPRESSIONS, required=required, indexes=indexes)


MIGRATIONS: Final = (Migration("core-0007", "suppression list", _suppressions),)
