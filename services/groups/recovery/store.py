"""Queries of a rebuild: whole collections."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final

from pymongo import ASCENDING, UpdateOne

from services.groups.core.domain import Group, Placement, PlacementState
from services.groups.core.observations.domain import COUNTED, Observation
from services.groups.core.observations.store import OBSERVATIONS
from services.groups.core.store import GROUPS, PLACEMENTS, Write, save_group, write
from services.shared.database import Database, Document

CHUNK: Final = 1000
"""Groups that are read and written at once."""


@dataclass(frozen=True, slots=True)
class Counts:
    """`links_lost` are groups whose link a rebuild could not find; `placements` are by state."""

    units: int
    units_unnamed: int
    groups: int
    links_lost: int
    observations: int
    placements: dict[str, int]


class RecoveryStore:
    def __init__(self, database: Database) -> None:
        self._units = database["units"]
        self._groups = database["groups"]
        self._placements = database["placements"]
        self._observations = database["observations"]

    async def seats_taken(self) -> dict[str, int]:
        """The number of members placed in each group that has any."""
        taken: dict[str, int] = {}
        for field, parts in (("group_id", []), ("seats.group_id", [{"$unwind": "$seats"}])):
            seated: Document = {"$match": {field: {"$type": "string"}}}
            pipeline = [seated, *parts, seated, {"$group": {"_id": f"${field}", "n": {"$sum": 1}}}]
            async for row in self._placements.aggregate(pipeline):
                taken[row["_id"]] = taken.get(row["_id"], 0) + row["n"]
        return taken

    async def waiting_placements(self) -> AsyncIterator[Placement]:
        """The placements of members who wait for a seat, or for the unit of another than the general one."""
        waiting = {"$in": [PlacementState.WAITING_SEAT.value, PlacementState.WAITING_UNIT.value]}
        query = {"$or": [{"state": PlacementState.WAITING_SEAT.value}, {"seats.state": waiting}]}
        async for row in self._placements.find(query):
            yield PLACEMENTS.decode(row)

    async def all_groups(self) -> AsyncIterator[list[Group]]:
        """In chunks, by id."""
        query: Document = {}
        while rows := await self._groups.find(query).sort("_id", ASCENDING).limit(CHUNK).to_list(CHUNK):
            yield [GROUPS.decode(row) for row in rows]
            query = {"_id": {"$gt": rows[-1]["_id"]}}

    async def all_observations(self) -> AsyncIterator[list[Observation]]:
        """In chunks, by id."""
        query: Document = {}
        found = self._observations
        while rows := await found.find(query).sort("_id", ASCENDING).limit(CHUNK).to_list(CHUNK):
            yield [OBSERVATIONS.decode(row) for row in rows]
            query = {"_id": {"$gt": rows[-1]["_id"]}}

    async def count_observations(self) -> None:
        """Set the counts of every group that was observed, whatever they were."""
        counts = {name: {"$sum": {"$cond": [{"$eq": ["$counted", name]}, 1, 0]}} for name in COUNTED}
        joined = {"$and": ["$seat", {"$eq": ["$state", PlacementState.JOINED.value]}]}
        counted = {"$ifNull": ["$cause", {"$cond": [joined, PlacementState.JOINED.value, None]}]}
        last = {"$max": {"$max": ["$present_at", "$absent_at"]}}
        pipeline: list[Document] = [
            {"$set": {"counted": counted}},
            {"$group": {"_id": "$group_id", "at": last, **counts}},
        ]
        writes: list[Write] = []
        async for row in self._observations.aggregate(pipeline):
            group_id, at = row.pop("_id"), row.pop("at")
            fields = {f"observed.{name}": n for name, n in row.items()}
            since: Document = {"$max": {"observed.at": at}} if at else {}
            writes.append(UpdateOne({"_id": group_id}, {"$set": fields, **since}))
        await write(self._groups, writes)

    async def change_groups(self, groups: Iterable[Group]) -> None:
        await write(self._groups, [save_group(group, changed=True) for group in groups])

    async def count(self) -> Counts:
        by_state: list[Document] = [{"$group": {"_id": "$state", "n": {"$sum": 1}}}]
        return Counts(
            units=await self._units.count_documents({}),
            units_unnamed=await self._units.count_documents({"$expr": {"$eq": ["$name.en", "$_id"]}}),
            groups=await self._groups.count_documents({}),
            links_lost=await self._groups.count_documents({"link_lost": True}),
            observations=await self._observations.count_documents({}),
            placements={row["_id"]: row["n"] async for row in self._placements.aggregate(by_state)},
        )
