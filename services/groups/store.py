"""The only queries of the groups service.

`units {_id: code, level, parent, name{en,hi}, women_target, version}`
`groups {_id, unit, kind, ordinal, name{en,hi}, capacity, taken, state, invite_link, link_lost?, version}`
`placements {_id: member id, member_sequence, sequence, unit, group_id, kind, ordinal, state, since}`
"""

from __future__ import annotations

from collections.abc import Collection as Many
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pymongo import ASCENDING, IndexModel, InsertOne, ReplaceOne, UpdateOne

from services.groups.domain import Group, GroupState, Placement, PlacementState, Seating, group_name
from services.shared.clock import Clock
from services.shared.contracts.vocabulary import GroupKind, subtree
from services.shared.database import Database, Document, Migration, Session, create

CHUNK = 1000
"""Groups read at once where all of them are."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many there are; `links_lost` are groups whose link a rebuild could not find, `placements` by state."""

    units: int
    units_unnamed: int
    groups: int
    links_lost: int
    placements: dict[str, int]


class Store:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._units = database["units"]
        self._groups = database["groups"]
        self._placements = database["placements"]
        self._clock = clock

    # -- units ---------------------------------------------------------------------------------------------

    async def units(self, codes: Many[str], session: Session | None = None) -> dict[str, Document]:
        found = self._units.find({"_id": {"$in": list(codes)}}, session=session)
        return {row["_id"]: row async for row in found}

    async def known_units(self, codes: Many[str], session: Session) -> dict[str, Mapping[str, str]]:
        """Code -> name, for those that exist."""
        found = self._units.find({"_id": {"$in": list(codes)}}, {"name": 1}, session=session)
        return {row["_id"]: row["name"] async for row in found}

    async def save_units(self, units: Sequence[Document], session: Session) -> None:
        """Insert (version 1) or replace."""
        writes = [ReplaceOne({"_id": unit["_id"]}, unit, upsert=True) for unit in units]
        if writes:
            await self._units.bulk_write(writes, ordered=False, session=session)

    async def children(self, parent: str, after: str | None, limit: int) -> list[Document]:
        query: Document = {"parent": parent}
        if after is not None:
            query["_id"] = {"$gt": after}
        return await self._units.find(query).sort("_id", ASCENDING).limit(limit).to_list(None)

    # -- groups --------------------------------------------------------------------------------------------

    async def group(self, id_: str, session: Session | None = None) -> Document | None:
        return await self._groups.find_one({"_id": id_}, session=session)

    async def groups(self, ids: Sequence[str]) -> list[Document]:
        return await self._groups.find({"_id": {"$in": list(ids)}}).to_list(None)

    async def list_groups(
        self, unit: str | None, kind: str | None, state: str | None, after: tuple[str, str] | None, limit: int
    ) -> list[Document]:
        """In the order of (unit, id): one index serves the subtree and the cursor."""
        query: Document = {field: value for field, value in (("kind", kind), ("state", state)) if value}
        if unit is not None:
            query["unit"] = subtree(unit)
        if after is not None:
            query["$or"] = [{"unit": {"$gt": after[0]}}, {"unit": after[0], "_id": {"$gt": after[1]}}]
        order = [("unit", ASCENDING), ("_id", ASCENDING)]
        return await self._groups.find(query).sort(order).limit(limit).to_list(None)

    async def replace_group(self, group: Document, session: Session) -> None:
        await self._groups.replace_one({"_id": group["_id"]}, group, session=session)

    async def seatable_groups(self, units: Many[str], left: Many[str], session: Session) -> dict[str, Group]:
        """The open general groups of `units` and the groups `left` by somebody."""
        open_ones: Document = {
            "unit": {"$in": list(units)},
            "kind": GroupKind.GENERAL.value,
            "state": GroupState.OPEN.value,
        }
        query = {"$or": [open_ones, {"_id": {"$in": list(left)}}]} if left else open_ones
        found = self._groups.find(query, {"name": 0}, session=session)
        return {row["_id"]: _group(row) async for row in found}

    async def last_ordinals(self, units: Many[str], session: Session) -> dict[str, int]:
        if not units:
            return {}
        pipeline: list[Mapping[str, object]] = [
            {"$match": {"unit": {"$in": list(units)}, "kind": GroupKind.GENERAL.value}},
            {"$group": {"_id": "$unit", "last": {"$max": "$ordinal"}}},
        ]
        return {row["_id"]: row["last"] async for row in self._groups.aggregate(pipeline, session=session)}

    async def save_groups(
        self, seating: Seating, unit_names: Mapping[str, Mapping[str, str]], session: Session
    ) -> None:
        now = self._clock.now()
        new = {group.id for group in seating.created}
        writes: list[InsertOne[Document] | UpdateOne] = [
            InsertOne(
                {
                    "_id": g.id,
                    "unit": g.unit,
                    "kind": g.kind,
                    "ordinal": g.ordinal,
                    "name": group_name(unit_names[g.unit], g.ordinal),
                    "capacity": g.capacity,
                    "taken": g.taken,
                    "state": g.state.value,
                    "invite_link": None,
                    "version": g.version,
                    "created_at": now,
                    "updated_at": now,
                }
            )
            for g in seating.created
        ]
        writes += [
            UpdateOne(
                {"_id": g.id},
                {"$set": {"taken": g.taken, "state": g.state.value, "version": g.version, "updated_at": now}},
            )
            for g in seating.touched.values()
            if g.id not in new
        ]
        if writes:
            await self._groups.bulk_write(writes, ordered=False, session=session)

    async def settle_groups(self) -> None:
        """Count the seats taken of every group from the placements, and name those that have no name. May be repeated."""
        seated: list[Document] = [
            {"$match": {"group_id": {"$type": "string"}}},
            {"$group": {"_id": "$group_id", "n": {"$sum": 1}}},
        ]
        taken = {row["_id"]: row["n"] async for row in self._placements.aggregate(seated)}
        query: Document = {}
        while rows := await self._groups.find(query).sort("_id", ASCENDING).limit(CHUNK).to_list(CHUNK):
            units = await self.units({row["unit"] for row in rows})
            writes = [_settled(row, taken.get(row["_id"], 0), units.get(row["unit"])) for row in rows]
            await self._groups.bulk_write(writes, ordered=False)
            query = {"_id": {"$gt": rows[-1]["_id"]}}

    async def group_rows(self, ids: Many[str], session: Session) -> dict[str, Document]:
        found = self._groups.find({"_id": {"$in": list(ids)}}, session=session)
        return {row["_id"]: row async for row in found}

    async def save_group_rows(self, groups: Sequence[Document], session: Session) -> None:
        writes = [ReplaceOne({"_id": group["_id"]}, group, upsert=True) for group in groups]
        if writes:
            await self._groups.bulk_write(writes, ordered=False, session=session)

    # -- placements ----------------------------------------------------------------------------------------

    async def placements(self, member_ids: Many[str], session: Session | None = None) -> dict[str, Placement]:
        found = self._placements.find({"_id": {"$in": list(member_ids)}}, session=session)
        return {row["_id"]: _placement(row) async for row in found}

    async def save_placements(
        self, placements: Sequence[Placement], session: Session, since: Mapping[str, datetime] | None = None
    ) -> None:
        """`since` says when each member's placement began, if that is not now."""
        now = self._clock.now()
        writes = [
            ReplaceOne(
                {"_id": p.member_id},
                {
                    "_id": p.member_id,
                    "member_sequence": p.member_sequence,
                    "sequence": p.sequence,
                    "unit": p.unit,
                    "group_id": p.group_id,
                    "kind": p.kind,
                    "ordinal": p.ordinal,
                    "state": p.state.value,
                    "since": since[p.member_id] if since else now,
                },
                upsert=True,
            )
            for p in placements
        ]
        if writes:
            await self._placements.bulk_write(writes, ordered=False, session=session)

    async def placement(self, member_id: str) -> Document | None:
        return await self._placements.find_one({"_id": member_id})

    async def members_of(
        self, group_id: str, state: str | None, after: str | None, limit: int
    ) -> list[Document]:
        query: Document = {"group_id": group_id}
        if state is not None:
            query["state"] = state
        if after is not None:
            query["_id"] = {"$gt": after}
        return await self._placements.find(query).sort("_id", ASCENDING).limit(limit).to_list(None)

    async def waiting_units(self) -> list[str]:
        """Units that somebody waits for, without reading the members that do."""
        codes: list[str] = await self._placements.distinct(
            "unit", {"state": PlacementState.WAITING_UNIT.value}
        )
        return codes

    async def waiting_members(self, units: Iterable[str], limit: int, session: Session) -> list[Placement]:
        query = {"state": PlacementState.WAITING_UNIT.value, "unit": {"$in": list(units)}}
        rows = self._placements.find(query, session=session).limit(limit)
        return [_placement(row) async for row in rows]

    async def count(self) -> Counts:
        by_state: list[Document] = [{"$group": {"_id": "$state", "n": {"$sum": 1}}}]
        return Counts(
            units=await self._units.count_documents({}),
            units_unnamed=await self._units.count_documents({"$expr": {"$eq": ["$name.en", "$_id"]}}),
            groups=await self._groups.count_documents({}),
            links_lost=await self._groups.count_documents({"link_lost": True}),
            placements={row["_id"]: row["n"] async for row in self._placements.aggregate(by_state)},
        )

    async def count_waiting(self) -> int:
        return await self._placements.count_documents({"state": PlacementState.WAITING_UNIT.value})


def _settled(group: Document, taken: int, unit: Document | None) -> UpdateOne:
    state = GroupState.FULL if taken >= group["capacity"] else GroupState.OPEN
    unit_name = unit["name"] if unit else {"en": group["unit"], "hi": group["unit"]}
    name = group.get("name") or group_name(unit_name, group["ordinal"])
    return UpdateOne({"_id": group["_id"]}, {"$set": {"taken": taken, "state": state.value, "name": name}})


def _group(row: Document) -> Group:
    return Group(
        id=row["_id"],
        unit=row["unit"],
        kind=row["kind"],
        ordinal=row["ordinal"],
        capacity=row["capacity"],
        taken=row["taken"],
        version=row["version"],
        invite_ready=row["invite_link"] is not None,
    )


def _placement(row: Document) -> Placement:
    return Placement(
        member_id=row["_id"],
        member_sequence=row["member_sequence"],
        sequence=row["sequence"],
        unit=row["unit"],
        state=PlacementState(row["state"]),
        group_id=row["group_id"],
        kind=row["kind"],
        ordinal=row["ordinal"],
    )


async def _first(database: Database) -> None:
    text, whole = {"bsonType": "string"}, {"bsonType": ["int", "long"], "minimum": 0}
    await create(
        database,
        "units",
        required={"level": text, "name": {"bsonType": "object", "required": ["en", "hi"]}, "version": whole},
        indexes=[IndexModel([("parent", 1), ("_id", 1)])],
    )
    await create(
        database,
        "groups",
        required={
            "unit": text,
            "kind": text,
            "ordinal": whole,
            "capacity": whole,
            "taken": whole,
            "state": {"enum": [s.value for s in GroupState]},
            "version": whole,
        },
        indexes=[
            IndexModel([("unit", 1), ("kind", 1), ("ordinal", 1)], unique=True),
            IndexModel([("unit", 1), ("_id", 1)]),
            IndexModel([("unit", 1), ("kind", 1)], partialFilterExpression={"state": GroupState.OPEN.value}),
        ],
    )
    await create(
        database,
        "placements",
        required={
            "unit": text,
            "state": {"enum": [s.value for s in PlacementState]},
            "sequence": whole,
            "member_sequence": whole,
        },
        indexes=[
            IndexModel(
                [("group_id", 1), ("_id", 1)], partialFilterExpression={"group_id": {"$type": "string"}}
            ),
            IndexModel(
                [("state", 1), ("unit", 1)],
                partialFilterExpression={"state": PlacementState.WAITING_UNIT.value},
            ),
        ],
    )


MIGRATIONS = (Migration(1, "units, groups, placements", _first),)
