"""The collections of incidents, and their queries.

`incidents`: the fields of `Incident`, `clocks` (the due times that run, by duty), `sealed` (its `Words`,
bound to its id), and `within`, by which lists find it.
`incident_affected`: `{_id: "<job>/<member>"}`, one for each member on the list of the affected that the job
has made.
"""

from __future__ import annotations

from collections.abc import Collection as Many
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pymongo import IndexModel

from services.members.core.within import within
from services.members.incidents.domain import CLOCKS, Affected, Incident, Words
from services.shared.contracts.vocabulary import subtree
from services.shared.database import Codec, Collection, Database, Document, Migration, Session, create
from services.shared.encryption import Ciphertext
from services.shared.identity import ALL_UNITS

COLLECTION: Final = "incidents"
_BY_UNIT: Final = [("within", 1), ("_id", -1)]
_INCIDENT: Final = Codec(Incident, id_field="id", omit_none=("affected",))
WORDS: Final = Codec(Words, omit_none=("consequences", "measures", "advice", "contact"))


@dataclass(frozen=True, slots=True)
class Stored:
    incident: Incident
    sealed: Ciphertext


def _document(incident: Incident, sealed: Ciphertext) -> Document:
    return {
        **_INCIDENT.encode(incident),
        "clocks": dict(incident.running()),
        "within": within(incident.unit),
        "sealed": sealed,
    }


class IncidentStore:
    def __init__(self, database: Database) -> None:
        self._incidents: Collection = database[COLLECTION]
        self._affected: Collection = database["incident_affected"]
        self._members: Collection = database["members"]
        self._reads: Collection = database["contact_reads"]

    async def find(self, id_: str, session: Session | None = None) -> Stored | None:
        row = await self._incidents.find_one({"_id": id_}, session=session)
        return Stored(_INCIDENT.decode(row), row["sealed"]) if row else None

    async def add(self, incident: Incident, sealed: Ciphertext, session: Session) -> None:
        await self._incidents.insert_one(_document(incident, sealed), session=session)

    async def replace(self, incident: Incident, sealed: Ciphertext, session: Session) -> None:
        document = _document(incident, sealed)
        await self._incidents.replace_one({"_id": incident.id}, document, session=session)

    async def page(self, root: str | None, after: str | None, limit: int) -> list[Stored]:
        """At most `limit` after the id `after`, the newest first."""
        query: Document = {"within": root or ALL_UNITS}
        if after is not None:
            query["_id"] = {"$lt": after}
        rows = await self._incidents.find(query).hint(_BY_UNIT).sort("_id", -1).limit(limit).to_list(limit)
        return [Stored(_INCIDENT.decode(row), row["sealed"]) for row in rows]

    async def next_due(self) -> dict[str, datetime]:
        """The earliest due time of the clocks that run, by duty."""
        found: dict[str, datetime] = {}
        for duty in CLOCKS:
            name = f"clocks.{duty.value}"
            row = await self._incidents.find_one({name: {"$exists": True}}, {name: 1}, sort=[(name, 1)])
            if row:
                found[duty.value] = row["clocks"][duty.value]
        return found

    async def members_of(self, affected: Affected, after: str, limit: int) -> list[str]:
        """At most `limit` members of the unit who joined in the time, after the id `after`."""
        joined: Document = {"$lt": affected.until}
        if affected.since is not None:
            joined["$gte"] = affected.since
        query = {"_id": {"$gt": after}, "unit": subtree(affected.unit), "joined_at": joined}
        rows = self._members.find(query, {"_id": 1}).sort("_id", 1).limit(limit)
        return [row["_id"] for row in await rows.to_list(limit)]

    async def reads_of(
        self, affected: Affected, after: tuple[datetime, str] | None, limit: int
    ) -> list[Document]:
        """At most `limit` reads `{_id, at, ids}` by the subject in the time, the oldest first."""
        at: Document = {"$lt": affected.until}
        if affected.since is not None:
            at["$gte"] = affected.since
        conditions: list[Document] = [{"subject": affected.subject, "at": at}]
        if after is not None:
            when, id_ = after
            conditions.append({"at": {"$gte": when}})
            conditions.append({"$or": [{"at": {"$gt": when}}, {"_id": {"$gt": id_}}]})
        order = [("at", 1), ("_id", 1)]
        rows = self._reads.find({"$and": conditions}, {"at": 1, "ids": 1}).sort(order).limit(limit)
        return await rows.to_list(limit)

    async def within(self, member_ids: Many[str], unit: str) -> list[str]:
        """The ones among the members who are in the subtree of the unit now, by id."""
        query = {"_id": {"$in": list(member_ids)}, "unit": subtree(unit)}
        return sorted([row["_id"] async for row in self._members.find(query, {"_id": 1})])

    async def affect(self, job_id: str, member_ids: Many[str], session: Session) -> int:
        """Put the members on the list who are not on it yet; returns how many those are."""
        ids = [f"{job_id}/{member_id}" for member_id in member_ids]
        there = self._affected.find({"_id": {"$in": ids}}, session=session)
        new = set(ids) - {row["_id"] async for row in there}
        if new:
            await self._affected.insert_many([{"_id": id_} for id_ in sorted(new)], session=session)
        return len(new)

    async def close_list(self, incident_id: str, count: int, session: Session) -> None:
        """The list is whole."""
        change = {"$set": {"affected.count": count}}
        await self._incidents.update_one({"_id": incident_id}, change, session=session)

    async def affected(self, job_id: str, after: str | None, limit: int) -> list[str]:
        """At most `limit` members of the list, after the member `after`, by id."""
        start = f"{job_id}/{after or ''}"
        query = {"_id": {"$gt": start, "$lt": f"{job_id}0"}}  # `/` sorts just below `0`
        rows = await self._affected.find(query).sort("_id", 1).limit(limit).to_list(limit)
        return [row["_id"].partition("/")[2] for row in rows]


async def _create(database: Database) -> None:
    await create(
        database,
        COLLECTION,
        required={
            "unit": {"bsonType": "string"},
            "detected_at": {"bsonType": "date"},
            "sealed": {"bsonType": "binData"},
        },
        indexes=[
            IndexModel(_BY_UNIT),
            *[IndexModel(f"clocks.{duty.value}", sparse=True) for duty in CLOCKS],
        ],
    )
    await create(database, "incident_affected")


MIGRATIONS: Final = (Migration("incidents-0001", "incidents, incident_affected", _create),)
