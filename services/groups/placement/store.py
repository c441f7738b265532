"""Queries of placement: members who wait, and what was heard of them."""

from __future__ import annotations

from collections.abc import Collection as Many
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from pymongo import ASCENDING, IndexModel

from services.groups.core.domain import Placement, PlacementState
from services.groups.core.store import PLACEMENTS, by_id
from services.shared.contracts.vocabulary import subtree
from services.shared.database import Database, Document, Migration, Session

_WAITING: Final[Document] = {"state": PlacementState.WAITING_UNIT.value}


class PlacementStore:
    def __init__(self, database: Database) -> None:
        self._placements = database["placements"]

    async def waiting_units(self) -> list[str]:
        """Units that somebody waits for, without reading the members that do."""
        elsewhere = {**_WAITING, "group_unit": {"$exists": True}}
        codes = await self._placements.distinct("unit", {**_WAITING, "group_unit": {"$exists": False}})
        return [*codes, *await self._placements.distinct("group_unit", elsewhere)]

    async def waiting_members(self, units: Iterable[str], limit: int, passing: Iterable[str]) -> list[str]:
        """Members who wait for one of `units`, without those in `passing`."""
        query = {**_WAITING, "_id": {"$nin": list(passing)}, **_group_in(units)}
        rows = self._placements.find(query, {"_id": 1}).limit(limit)
        return [row["_id"] async for row in rows]

    async def heard(self, member_ids: Many[str], session: Session) -> dict[str, int]:
        """The last applied sequence of each member who has a placement."""
        found = await by_id(self._placements, PLACEMENTS, member_ids, session)
        return {id_: placement.heard for id_, placement in found.items()}

    async def forget_heard(self, member_ids: Many[str], session: Session) -> None:
        """Make any event of these members news; their placements stay."""
        query = {"_id": {"$in": list(member_ids)}}
        forgotten: Document = {"$set": {"member_sequence": 0}, "$unset": {"facts": ""}}
        await self._placements.update_many(query, forgotten, session=session)

    async def waiting(self, root: str | None, after: tuple[str, str] | None, limit: int) -> list[Placement]:
        """In the order of (unit, member id): one index serves the subtree of `root` and the cursor."""
        query = dict(_WAITING)
        if root is not None:
            query["unit"] = subtree(root)
        if after is not None:
            query["$or"] = [{"unit": {"$gt": after[0]}}, {"unit": after[0], "_id": {"$gt": after[1]}}]
        rows = self._placements.find(query).sort([("unit", ASCENDING), ("_id", ASCENDING)]).limit(limit)
        return [PLACEMENTS.decode(row) async for row in rows]

    async def count_waiting(self) -> tuple[int, datetime | None]:
        """How many members wait for a unit, and since when the first of them does."""
        totals: Document = {"_id": None, "count": {"$sum": 1}, "oldest": {"$min": "$since"}}
        pipeline: list[Document] = [{"$match": _WAITING}, {"$group": totals}]
        async for row in self._placements.aggregate(pipeline):
            return row["count"], row["oldest"]
        return 0, None


def _group_in(units: Iterable[str]) -> Document:
    """The general group would be in one of the units: mostly it is in the member's own."""
    codes = list(units)
    own: Document = {"unit": {"$in": codes}, "group_unit": {"$exists": False}}
    return {"$or": [own, {"group_unit": {"$in": codes}}]}


async def _waiting_index(database: Database) -> None:
    """For `PlacementStore.waiting`; the index of `core-0001` on the same documents lacks the member's id."""
    in_order = IndexModel([("state", 1), ("unit", 1), ("_id", 1)], partialFilterExpression=_WAITING)
    await database["placements"].create_indexes([in_order])


MIGRATIONS: Final = (Migration("placement-0001", "index of members who wait for a unit", _waiting_index),)
