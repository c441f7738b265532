"""Queries of the tree."""

from __future__ import annotations

from collections.abc import Sequence

from pymongo import ASCENDING

from services.groups.core.domain import Group, Unit
from services.groups.core.store import GROUPS, UNITS
from services.shared.database import Database, Document, Session


class TreeStore:
    def __init__(self, database: Database) -> None:
        self._units = database["units"]
        self._groups = database["groups"]

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
