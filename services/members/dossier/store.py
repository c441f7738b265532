"""The queries for what this service holds about one person, beside their members and ledgers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from services.shared.database import Collection, Database, Document

MOST: Final = 1000
"""Most reads of one person in a dossier, the newest; it says how many there are."""


class DossierStore:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._reads: Collection = database["contact_reads"]

    async def terms(self, member_id: str) -> list[Document]:
        """Roles that have not ended."""
        fields = {"_id": 0, "role": 1, "unit": 1, "since": 1, "until": 1}
        rows = self._database["role_terms"].find({"member_id": member_id}, fields).sort("_id", 1)
        return await rows.to_list(None)

    async def role_changes(self, member_id: str) -> list[Document]:
        """Every change of a role, the oldest first."""
        rows = self._database["role_history"].find({"member_id": member_id}, {"_id": 0, "member_id": 0})
        return await rows.sort([("at", 1), ("_id", 1)]).to_list(None)

    async def merges(self, member_ids: Sequence[str]) -> list[Document]:
        """Merges with one of these members, also those undone, the oldest first."""
        among = {"$in": list(member_ids)}
        rows = self._database["merges"].find({"$or": [{"survivor": among}, {"other": among}]})
        return [_with_id(row) async for row in rows.sort("_id", 1)]

    async def grievances(self, member_ids: Sequence[str]) -> list[Document]:
        """Grievances of these members, the oldest first; their words are `sealed`, bound to the id."""
        rows = self._database["grievances"].find({"member_id": {"$in": list(member_ids)}})
        return [_with_id(row) async for row in rows.sort("_id", 1)]

    async def imports(self, ids: Iterable[str], keys: Sequence[str], since: datetime) -> list[Document]:
        """These imports, and those since then whose file named one of `keys`: a member's id, or the
        fingerprint of a phone."""
        recent = self._database["imports"].find({"at": {"$gte": since}}, {"_id": 1})
        named = [f"{row['_id']}/{key}" async for row in recent for key in keys if key]
        seen = self._database["import_seen"].find({"_id": {"$in": named}}, {"_id": 1})
        wanted = {*ids, *[row["_id"].partition("/")[0] async for row in seen]}
        fields = {"by": 1, "unit": 1, "at": 1}
        rows = self._database["imports"].find({"_id": {"$in": list(wanted)}}, fields).sort("_id", 1)
        return [_with_id(row) async for row in rows]

    async def reads(self, member_ids: Sequence[str]) -> tuple[list[Document], int]:
        """The newest reads of the contacts of these members, and how many there are."""
        query = {"ids": {"$in": list(member_ids)}}
        rows = self._reads.find(query, {"_id": 0, "at": 1, "subject": 1, "via": 1})
        newest = await rows.sort([("at", -1), ("_id", -1)]).limit(MOST).to_list(MOST)
        return newest, await self._reads.count_documents(query)


def _with_id(row: Document) -> Document:
    return {"id": row.pop("_id"), **row}
