"""Queries of placement: groups with free seats, and members who wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Collection as Many
from datetime import datetime
from operator import itemgetter
from typing import Any, Final

from pymongo import ASCENDING, IndexModel, UpdateOne

from services.groups.core.domain import GroupState, Placement, PlacementState
from services.groups.core.store import PLACEMENTS, Write, save_group, write
from services.groups.placement.domain import GroupSeats, Seating
from services.shared.contracts.vocabulary import GroupKind, subtree
from services.shared.database import Database, Document, Migration, Session

_SEAT_FIELDS: Final = ("_id", "unit", "kind", "ordinal", "capacity", "taken", "version")
_seat_fields: Callable[[Document], tuple[Any, ...]] = itemgetter(*_SEAT_FIELDS)
_SEATS: Final = dict.fromkeys([*_SEAT_FIELDS, "invite_link"], 1)
_WAITING: Final[Document] = {"state": PlacementState.WAITING_UNIT.value}


class PlacementStore:
    def __init__(self, database: Database) -> None:
        self._groups = database["groups"]
        self._placements = database["placements"]

    async def seats(self, units: Many[str], left: Many[str], session: Session) -> list[GroupSeats]:
        """The seats of the open general groups of `units`, and of the groups that members `left`."""
        open_groups: Document = {
            "unit": {"$in": list(units)},
            "kind": GroupKind.GENERAL.value,
            "state": GroupState.OPEN.value,
        }
        query = {"$or": [open_groups, {"_id": {"$in": list(left)}}]} if left else open_groups
        found = self._groups.find(query, _SEATS, session=session)
        return [_seats(row) async for row in found]

    async def last_ordinals(self, units: Many[str], session: Session) -> dict[str, int]:
        """The highest ordinal of the general groups of each unit that has any."""
        if not units:
            return {}
        pipeline: list[Mapping[str, object]] = [
            {"$match": {"unit": {"$in": list(units)}, "kind": GroupKind.GENERAL.value}},
            {"$group": {"_id": "$unit", "last": {"$max": "$ordinal"}}},
        ]
        return {row["_id"]: row["last"] async for row in self._groups.aggregate(pipeline, session=session)}

    async def save_groups(self, seating: Seating, now: datetime, session: Session) -> None:
        writes: list[Write] = [save_group(group, changed=False) for group in seating.created]
        writes += [
            UpdateOne(
                {"_id": group.id},
                {
                    "$set": {
                        "taken": group.taken,
                        "state": group.state.value,
                        "version": group.version,
                        "updated_at": now,
                    }
                },
            )
            for group in seating.changed
        ]
        await write(self._groups, writes, session)

    async def waiting_units(self) -> list[str]:
        """Units that somebody waits for, without reading the members that do."""
        codes: list[str] = await self._placements.distinct("unit", _WAITING)
        return codes

    async def waiting_members(
        self, units: Iterable[str], limit: int, passing: Iterable[str]
    ) -> list[Placement]:
        """Members who wait for one of `units`, without those in `passing`."""
        query = {**_WAITING, "unit": {"$in": list(units)}, "_id": {"$nin": list(passing)}}
        rows = self._placements.find(query).limit(limit)
        return [PLACEMENTS.decode(row) async for row in rows]

    async def heard(self, member_ids: Many[str], session: Session) -> dict[str, int]:
        """The last applied sequence of each member who has a placement."""
        query = {"_id": {"$in": list(member_ids)}}
        found = self._placements.find(query, {"member_sequence": 1}, session=session)
        return {row["_id"]: row["member_sequence"] async for row in found}

    async def forget_heard(self, member_ids: Many[str], session: Session) -> None:
        """Make any event of these members news; their placements stay."""
        query = {"_id": {"$in": list(member_ids)}}
        await self._placements.update_many(query, {"$set": {"member_sequence": 0}}, session=session)

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


async def _waiting_index(database: Database) -> None:
    """For `PlacementStore.waiting`; the index of `core-0001` on the same documents lacks the member's id."""
    in_order = IndexModel([("state", 1), ("unit", 1), ("_id", 1)], partialFilterExpression=_WAITING)
    await database["placements"].create_indexes([in_order])


MIGRATIONS: Final = (Migration("placement-0001", "index of members who wait for a unit", _waiting_index),)


def _seats(row: Document) -> GroupSeats:
    return GroupSeats._make((*_seat_fields(row), row["invite_link"] is not None))
