"""Queries of the tree."""

from __future__ import annotations

from pymongo import ASCENDING

from services.groups.core.domain import Unit
from services.groups.core.store import UNITS
from services.shared.database import Database, Document


class TreeStore:
    def __init__(self, database: Database) -> None:
        self._units = database["units"]

    async def children(self, parent: str, after: str | None, limit: int) -> list[Unit]:
        """The units directly below, in the order of their codes."""
        query: Document = {"parent": parent}
        if after is not None:
            query["_id"] = {"$gt": after}
        rows = self._units.find(query).sort("_id", ASCENDING).limit(limit)
        return [UNITS.decode(row) async for row in rows]
