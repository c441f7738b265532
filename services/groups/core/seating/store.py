"""Queries of seating: groups with free seats, and waiting lists.

`waiting {_id: "<member id>/<rule>", unit, kind, state, since}`: the waiting lists, which follow the
placements in the same transaction; members who wait for the unit of their general group are found by their
placement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Collection as Many
from datetime import datetime
from operator import itemgetter
from typing import Any, Final

from pymongo import ASCENDING, DeleteOne, IndexModel, InsertOne, ReplaceOne, UpdateOne

from services.groups.core.domain import Group, GroupState, Placement, PlacementState, Seat
from services.groups.core.seating.domain import Place, Seating
from services.groups.core.seating.group_seats import GroupSeats, Numbering, Pair
from services.groups.core.store import PLACEMENTS, Write, by_id, save_group, write
from services.shared.database import Database, Document, Migration, Session, create

QUEUE: Final = 200
"""How many of a waiting list one transaction reads."""
_SEAT_FIELDS: Final = ("_id", "unit", "kind", "ordinal", "capacity", "taken", "version")
_seat_fields: Callable[[Document], tuple[Any, ...]] = itemgetter(*_SEAT_FIELDS)
_SEATS: Final = dict.fromkeys([*_SEAT_FIELDS, "invite_link", "sealed_link", "retired"], 1)


class SeatStore:
    def __init__(self, database: Database) -> None:
        self._units = database["units"]
        self._groups = database["groups"]
        self._waiting = database["waiting"]
        self._placements = database["placements"]

    async def unit_names(self, codes: Many[str], session: Session | None) -> dict[str, Mapping[str, str]]:
        """Names by the code of the unit, of those units that exist and are live."""
        query = {"_id": {"$in": list(codes)}, "successors": None}
        found = self._units.find(query, {"name": 1}, session=session)
        return {row["_id"]: row["name"] async for row in found}

    async def seats(self, pairs: Many[Pair], left: Many[str], session: Session | None) -> list[GroupSeats]:
        """The seats of the open groups of `pairs`, and of the groups that members `left`."""
        units, kinds = {unit for unit, _ in pairs}, {kind for _, kind in pairs}
        open_groups: Document = {
            "unit": {"$in": list(units)},
            "kind": next(iter(kinds)) if len(kinds) == 1 else {"$in": list(kinds)},
            "state": GroupState.OPEN.value,
        }
        query = {"$or": [open_groups, {"_id": {"$in": list(left)}}]} if left else open_groups
        found = self._groups.find(query, _SEATS, session=session)
        return [seats_of(row) async for row in found]

    async def numbering(self, pairs: Many[Pair], session: Session | None) -> dict[Pair, Numbering]:
        """The highest ordinal and the number of live groups, for each pair that has any."""
        if not pairs:
            return {}
        units, kinds = {unit for unit, _ in pairs}, {kind for _, kind in pairs}
        live = {"$cond": [{"$eq": ["$retired", "archived"]}, 0, 1]}
        pipeline: list[Mapping[str, object]] = [
            {"$match": {"unit": {"$in": list(units)}, "kind": {"$in": list(kinds)}}},
            {
                "$group": {
                    "_id": {"unit": "$unit", "kind": "$kind"},
                    "last": {"$max": "$ordinal"},
                    "live": {"$sum": live},
                }
            },
        ]
        rows = self._groups.aggregate(pipeline, session=session)
        found = {
            (row["_id"]["unit"], row["_id"]["kind"]): Numbering(row["last"], row["live"])
            async for row in rows
        }
        return {pair: found[pair] for pair in pairs if pair in found}

    async def queues(
        self, pairs: Many[Pair], session: Session | None = None, *, passing: Many[str] = ()
    ) -> dict[Pair, list[Place]]:
        """The first in each waiting list, at most `QUEUE`, in order, without the places of these ids."""
        found = {}
        for unit, kind in pairs:
            query: Document = {"unit": unit, "kind": kind, "state": PlacementState.WAITING_SEAT.value}
            if passing:
                query["_id"] = {"$nin": list(passing)}
            in_order = [("since", ASCENDING), ("_id", ASCENDING)]
            rows = self._waiting.find(query, {"since": 1}, session=session).sort(in_order).limit(QUEUE)
            if places := [(row["since"], *_split(row["_id"])) async for row in rows]:
                found[unit, kind] = places
        return found

    async def placements(self, member_ids: Many[str], session: Session | None = None) -> dict[str, Placement]:
        """The placements of members in waiting lists."""
        return await by_id(self._placements, PLACEMENTS, member_ids, session)

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

    async def add_groups(self, groups: Iterable[Group], session: Session) -> None:
        await write(self._groups, [save_group(group, changed=False) for group in groups], session)

    async def save_waiting(
        self, waits: Mapping[str, Sequence[Seat]], gone: Many[str], session: Session | None
    ) -> None:
        """Write the places of members in waiting lists, and delete those of the ids `gone`."""
        rows: list[DeleteOne | ReplaceOne[Document]] = [DeleteOne({"_id": id_}) for id_ in gone]
        for member_id, seats in waits.items():
            for seat in seats:
                row = waiting_row(member_id, seat)
                rows.append(ReplaceOne({"_id": row["_id"]}, row, upsert=True))
        if rows:
            await self._waiting.bulk_write(rows, ordered=False, session=session)

    async def waited_for(self, state: PlacementState) -> list[Pair]:
        """The pairs that somebody waits for."""
        pipeline: list[Document] = [
            {"$match": {"state": state.value}},
            {"$group": {"_id": {"unit": "$unit", "kind": "$kind"}}},
        ]
        rows = self._waiting.aggregate(pipeline)
        return [(row["_id"]["unit"], row["_id"]["kind"]) async for row in rows]

    async def waiting_members(self, units: Many[str], limit: int) -> list[str]:
        """Members who wait for one of `units` by another rule than the general one."""
        query = {"state": PlacementState.WAITING_UNIT.value, "unit": {"$in": list(units)}}
        rows = self._waiting.find(query, {"_id": 1}).limit(limit)
        return list(dict.fromkeys([_split(row["_id"])[0] async for row in rows]))

    async def replace_waiting(self, rows: Sequence[Document]) -> None:
        """Make these the waiting lists: a rebuild has read them from all placements."""
        await self._waiting.delete_many({})
        if rows:
            await self._waiting.bulk_write([InsertOne(row) for row in rows], ordered=False)


def waiting_row(member_id: str, seat: Seat) -> Document:
    return {
        "_id": f"{member_id}/{seat.rule}",
        "unit": seat.unit,
        "kind": seat.kind,
        "state": seat.state.value,
        "since": seat.since,
    }


def seats_of(row: Document) -> GroupSeats:
    link = row["invite_link"] is not None or "sealed_link" in row
    retired = row.get("retired") is not None
    return GroupSeats._make((*_seat_fields(row), retired, link))


def _split(id_: str) -> tuple[str, str]:
    member_id, _, rule = id_.partition("/")
    return member_id, rule


async def _waiting_lists(database: Database) -> None:
    text = {"bsonType": "string"}
    await create(
        database,
        "waiting",
        required={"unit": text, "kind": text, "state": text, "since": {"bsonType": "date"}},
        indexes=[IndexModel([("state", 1), ("unit", 1), ("kind", 1), ("since", 1), ("_id", 1)])],
    )


MIGRATIONS: Final = (Migration("core-0003", "waiting lists", _waiting_lists),)
