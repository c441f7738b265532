"""Queries of groups and their members."""

from __future__ import annotations

from pymongo import ASCENDING

from services.groups.core.domain import GENERAL, Group, GroupState, Placement
from services.groups.core.store import GROUPS, PLACEMENTS, seated_in
from services.shared.contracts.vocabulary import subtree
from services.shared.database import Database, Document, Session


class ChatGroupStore:
    def __init__(self, database: Database) -> None:
        self._units = database["units"]
        self._groups = database["groups"]
        self._placements = database["placements"]

    async def list_groups(
        self,
        unit: str | None,
        kind: str | None,
        state: str | None,
        after: tuple[str, str] | None,
        limit: int,
        *,
        archived: bool,
    ) -> list[Group]:
        """In the order of (unit, id): one index serves the subtree and the cursor."""
        query: Document = {field: value for field, value in (("kind", kind), ("state", state)) if value}
        query["retired"] = "archived" if archived else {"$ne": "archived"}
        if unit is not None:
            query["unit"] = subtree(unit)
        if after is not None:
            query["$or"] = [{"unit": {"$gt": after[0]}}, {"unit": after[0], "_id": {"$gt": after[1]}}]
        rows = self._groups.find(query).sort([("unit", ASCENDING), ("_id", ASCENDING)]).limit(limit)
        return [GROUPS.decode(row) async for row in rows]

    async def members(
        self, group: Group, state: str | None, after: str | None, limit: int
    ) -> list[Placement]:
        """In the order of their ids."""
        query = seated_in(group)
        if state is not None:
            if group.kind == GENERAL:
                query["state"] = state
            else:
                query["seats"] = {"$elemMatch": {"group_id": group.id, "state": state}}
        if after is not None:
            query["_id"] = {"$gt": after}
        rows = self._placements.find(query).sort("_id", ASCENDING).limit(limit)
        return [PLACEMENTS.decode(row) async for row in rows]

    async def newest_members(self, group: Group, limit: int, session: Session) -> list[str]:
        """The members who got their seat last."""
        since = "since" if group.kind == GENERAL else "seats.since"
        rows = self._placements.find(seated_in(group), {"_id": 1}, session=session)
        return [row["_id"] async for row in rows.sort([(since, -1), ("_id", -1)]).limit(limit)]

    async def free_seats(self, group: Group, session: Session) -> int:
        """Seats that are free in the other open groups of the unit and kind."""
        query = {"unit": group.unit, "kind": group.kind, "state": GroupState.OPEN.value}
        rows = self._groups.find({**query, "_id": {"$ne": group.id}}, session=session)
        return sum([row["capacity"] - row["taken"] async for row in rows])

    async def units_without(
        self, root: str, level: str, kind: str, after: str, limit: int, session: Session
    ) -> tuple[list[str], list[str]]:
        """Live units of the level in the subtree, by code, and those of them without a group of the kind."""
        query = {"level": level, "_id": {**subtree(root), "$gt": after}, "successors": None}
        rows = self._units.find(query, {"_id": 1}, session=session).sort("_id", ASCENDING).limit(limit)
        codes = [row["_id"] async for row in rows]
        live = {"unit": {"$in": codes}, "kind": kind, "retired": {"$ne": "archived"}}
        having = {row["unit"] async for row in self._groups.find(live, {"unit": 1}, session=session)}
        return codes, [code for code in codes if code not in having]
