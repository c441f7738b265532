"""Queries of groups and their members."""

from __future__ import annotations

from pymongo import ASCENDING

from services.groups.core.domain import Group, Placement
from services.groups.core.store import GROUPS, PLACEMENTS
from services.shared.contracts.vocabulary import subtree
from services.shared.database import Database, Document


class ChatGroupStore:
    def __init__(self, database: Database) -> None:
        self._groups = database["groups"]
        self._placements = database["placements"]

    async def list_groups(
        self, unit: str | None, kind: str | None, state: str | None, after: tuple[str, str] | None, limit: int
    ) -> list[Group]:
        """In the order of (unit, id): one index serves the subtree and the cursor."""
        query: Document = {field: value for field, value in (("kind", kind), ("state", state)) if value}
        if unit is not None:
            query["unit"] = subtree(unit)
        if after is not None:
            query["$or"] = [{"unit": {"$gt": after[0]}}, {"unit": after[0], "_id": {"$gt": after[1]}}]
        rows = self._groups.find(query).sort([("unit", ASCENDING), ("_id", ASCENDING)]).limit(limit)
        return [GROUPS.decode(row) async for row in rows]

    async def members(
        self, group_id: str, state: str | None, after: str | None, limit: int
    ) -> list[Placement]:
        """In the order of their ids."""
        query: Document = {"group_id": group_id}
        if state is not None:
            query["state"] = state
        if after is not None:
            query["_id"] = {"$gt": after}
        rows = self._placements.find(query).sort("_id", ASCENDING).limit(limit)
        return [PLACEMENTS.decode(row) async for row in rows]
