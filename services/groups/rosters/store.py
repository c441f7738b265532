"""The members found on a roster while its job runs, the counts of each group, and drift by unit.

`roster_seen {_id: job id/member id, job, member_id, at}`: who is on the roster of a job, until it has ended.
"""

from __future__ import annotations

from collections.abc import Collection as Many
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from pymongo import ASCENDING, IndexModel, UpdateOne

from services.groups.core.observations.domain import COUNTED
from services.shared.contracts.vocabulary import subtree
from services.shared.database import Database, Document, Migration, Session, create

STRANGERS: Final = "strangers"
SEEN_SECONDS: Final = 7 * 86_400
OBSERVED: Final[Document] = {"observed.at": {"$type": "date"}}


class RosterStore:
    def __init__(self, database: Database) -> None:
        self._seen = database["roster_seen"]
        self._groups = database["groups"]

    async def see(self, job_id: str, member_ids: Many[str], at: datetime, session: Session) -> None:
        """Remember members who are on the roster of a job; one may be on it twice."""
        rows = {f"{job_id}/{id_}": {"job": job_id, "member_id": id_, "at": at} for id_ in member_ids}
        writes = [UpdateOne({"_id": key}, {"$setOnInsert": row}, upsert=True) for key, row in rows.items()]
        if writes:
            await self._seen.bulk_write(writes, ordered=False, session=session)

    async def seen(self, job_id: str, after: str | None, limit: int) -> list[str]:
        """Members on the roster in the order of their ids."""
        query: Document = {"job": job_id}
        if after is not None:
            query["member_id"] = {"$gt": after}
        rows = self._seen.find(query, {"member_id": 1}).sort("member_id", ASCENDING).limit(limit)
        return [row["member_id"] async for row in rows]

    async def among(self, job_id: str, member_ids: Many[str]) -> set[str]:
        """Find out who of these members is on the roster."""
        ids = [f"{job_id}/{id_}" for id_ in member_ids]
        return {row["member_id"] async for row in self._seen.find({"_id": {"$in": ids}}, {"member_id": 1})}

    async def forget(self, job_id: str, session: Session) -> None:
        await self._seen.delete_many({"job": job_id}, session=session)

    async def conclude(
        self,
        group_id: str,
        taken_at: datetime,
        strangers: Mapping[str, int],
        session: Session,
        *,
        complete: bool,
    ) -> None:
        """Note when the group was last looked at; the newest roster's strangers count."""
        newest: Document = {"_id": group_id, "observed.at": {"$not": {"$gt": taken_at}}}
        fields = {"observed.at": taken_at} | {f"observed.{name}": n for name, n in strangers.items()}
        await self._groups.update_one(newest, {"$set": fields}, session=session)
        if complete:
            await self._groups.update_one(
                {"_id": group_id}, {"$max": {"observed.complete_at": taken_at}}, session=session
            )

    async def counts(self, group_id: str) -> Document:
        """The counts of a group; none before its first roster."""
        row = await self._groups.find_one({"_id": group_id}, {"observed": 1})
        found: Document = row.get("observed", {}) if row else {}
        return found

    async def drift(self, unit: str | None) -> list[Document]:
        """The counts of all groups of a subtree, summed by kind."""
        names = (*COUNTED, STRANGERS)
        sums = {name: {"$sum": f"$observed.{name}"} for name in names}
        within = {"unit": subtree(unit)} if unit is not None else {}
        group = {
            "_id": "$kind",
            "groups": {"$sum": 1},
            "seats": {"$sum": "$taken"},
            "oldest_at": {"$min": "$observed.at"},
            **sums,
        }
        pipeline: list[Document] = [{"$match": within | OBSERVED}, {"$group": group}, {"$sort": {"_id": 1}}]
        return await self._groups.aggregate(pipeline).to_list(None)

    async def totals(self) -> Mapping[str, int]:
        """Members by count in all groups, for the metrics."""
        sums = {name: {"$sum": f"$observed.{name}"} for name in COUNTED}
        pipeline: list[Document] = [{"$match": OBSERVED}, {"$group": {"_id": None, **sums}}]
        async for row in self._groups.aggregate(pipeline):
            return {name: row[name] for name in COUNTED}
        return dict.fromkeys(COUNTED, 0)

    async def unobserved(self, before: datetime) -> int:
        """Groups with members and a link of which no roster came since."""
        query: Document = {
            "taken": {"$gt": 0},
            "observed.at": {"$not": {"$gt": before}},
            "$or": [{"sealed_link": {"$exists": True}}, {"invite_link": {"$type": "string"}}],
        }
        return await self._groups.count_documents(query)


async def _create_seen(database: Database) -> None:
    await create(
        database,
        "roster_seen",
        required={"job": {"bsonType": "string"}, "member_id": {"bsonType": "string"}},
        indexes=[
            IndexModel([("job", 1), ("member_id", 1)]),
            IndexModel("at", expireAfterSeconds=SEEN_SECONDS),
        ],
    )


MIGRATIONS: Final = (Migration("rosters-0001", "members on the rosters at work", _create_seen),)


def shown(row: Mapping[str, Any]) -> dict[str, int]:
    return {name: row.get(name, 0) for name in (*COUNTED, STRANGERS)}
