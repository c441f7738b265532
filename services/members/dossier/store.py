"""The queries for what this service holds about one member, beside the member itself and its ledger."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from services.shared.database import Collection, Database, Document

MOST: Final = 1000
"""Most reads of one member in a dossier, the newest; it says how many there are."""


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

    async def imports(self, ids: Iterable[str]) -> list[Document]:
        fields = {"by": 1, "unit": 1, "at": 1}
        rows = await self._database["imports"].find({"_id": {"$in": list(ids)}}, fields).to_list(None)
        return [{"id": row.pop("_id"), **row} for row in rows]

    async def reads(self, member_id: str) -> tuple[list[Document], int]:
        """The newest reads of the member's contact, and how many there are."""
        query = {"ids": member_id}
        rows = self._reads.find(query, {"_id": 0, "at": 1, "subject": 1, "via": 1})
        newest = await rows.sort([("at", -1), ("_id", -1)]).limit(MOST).to_list(MOST)
        return newest, await self._reads.count_documents(query)
