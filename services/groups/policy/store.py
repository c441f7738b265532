"""Queries of the placement policy: its versions, previews, and placements in the order of their ids.

`policies`: see `core/store.py`
`policy_previews {_id, policy, base_version, created_at, job_id, done, counts}`
`policy_differences {_id: "<preview>/<key>", preview, ...difference, at}`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from pymongo import ASCENDING, DESCENDING, IndexModel, ReplaceOne

from services.groups.core.domain import Group, Placement
from services.groups.core.policy import Policy
from services.groups.core.store import GROUPS, PLACEMENTS, POLICIES
from services.groups.policy.domain import Difference, Fullest, Preview
from services.shared.database import Codec, Database, Document, Migration, Session, create

KEPT: Final = timedelta(days=7)
"""How long a preview can be read."""
LIVE: Final = ("waiting", "running", "paused")
PREVIEWS: Final = Codec(Preview, id_field="id")
DIFFERENCES: Final = Codec(Difference)


class PolicyStore:
    def __init__(self, database: Database) -> None:
        self._policies = database["policies"]
        self._placements = database["placements"]
        self._groups = database["groups"]
        self._jobs = database["jobs"]
        self._previews = database["policy_previews"]
        self._differences = database["policy_differences"]

    async def add(self, policy: Policy, job_id: str, now: datetime, session: Session) -> None:
        """Put the policy in force. Two at once conflict, here or at the one before."""
        await self._policies.update_one(
            {"_id": policy.version - 1}, {"$set": {"followed_at": now}}, session=session
        )
        row = POLICIES.encode(policy) | {"at": now, "job_id": job_id}
        await self._policies.insert_one(row, session=session)

    async def set_job(self, version: int, job_id: str, session: Session) -> None:
        await self._policies.update_one({"_id": version}, {"$set": {"job_id": job_id}}, session=session)

    async def set_applied(self, version: int, now: datetime, session: Session) -> None:
        await self._policies.update_one({"_id": version}, {"$set": {"applied_at": now}}, session=session)

    async def job_of(self, version: int) -> str | None:
        row = await self._policies.find_one({"_id": version}, {"job_id": 1})
        return row.get("job_id") if row else None

    async def put_at(self, version: int, session: Session) -> datetime | None:
        """When the policy was put in force."""
        row = await self._policies.find_one({"_id": version}, {"at": 1}, session=session)
        return row.get("at") if row else None

    async def live_job(self, kind: str, session: Session | None = None) -> str | None:
        """A job of the kind that has not ended."""
        query = {"kind": kind, "state": {"$in": list(LIVE)}}
        row = await self._jobs.find_one(query, {"_id": 1}, session=session)
        return row["_id"] if row else None

    async def last_result(self, kind: str) -> Mapping[str, int] | None:
        """The counts of the last job of the kind that succeeded."""
        rows = self._jobs.find({"kind": kind, "state": "succeeded"}, {"counts": 1})
        async for row in rows.sort("_id", DESCENDING).limit(1):
            counts: Mapping[str, int] = row["counts"]
            return counts
        return None

    async def fullest(self, session: Session | None = None) -> dict[str, Fullest]:
        """By kind of group."""
        pipeline: list[Document] = [
            {"$match": {"taken": {"$gt": 0}}},
            {
                "$group": {
                    "_id": {"kind": "$kind", "unit": "$unit"},
                    "taken": {"$max": "$taken"},
                    "groups": {"$sum": 1},
                }
            },
            {"$group": {"_id": "$_id.kind", "taken": {"$max": "$taken"}, "groups": {"$max": "$groups"}}},
        ]
        rows = self._groups.aggregate(pipeline, session=session)
        return {row["_id"]: Fullest(row["taken"], row["groups"]) async for row in rows}

    async def count_placements(self) -> int:
        return await self._placements.estimated_document_count()

    async def versions_after(
        self, after: str, limit: int, session: Session, *, before: int | None = None
    ) -> list[tuple[str, int]]:
        """(member, version of their policy) in the order of ids; with `before`, only those of an earlier
        version."""
        query: Document = {"_id": {"$gt": after}}
        if before is not None:
            query["$or"] = [{"policy": None}, {"policy": {"$lt": before}}]
        rows = self._placements.find(query, {"policy": 1}, session=session).sort("_id", ASCENDING)
        return [(row["_id"], row.get("policy") or 0) async for row in rows.limit(limit)]

    async def placements_after(self, after: str, limit: int) -> list[Placement]:
        """In the order of ids."""
        rows = self._placements.find({"_id": {"$gt": after}}).sort("_id", ASCENDING).limit(limit)
        return [PLACEMENTS.decode(row) async for row in rows]

    async def groups_after(self, after: str, limit: int, session: Session | None = None) -> list[Group]:
        """Groups that are not archived, in the order of ids."""
        query = {"_id": {"$gt": after}, "retired": {"$ne": "archived"}}
        rows = self._groups.find(query, session=session).sort("_id", ASCENDING).limit(limit)
        return [GROUPS.decode(row) async for row in rows]

    async def members_of(self, group_ids: Sequence[str]) -> dict[str, int]:
        """How many members each group has, counted from their placements."""
        ids = list(group_ids)
        counts: dict[str, int] = {}
        for field in ("group_id", "seats.group_id"):
            pipeline: list[Document] = [{"$match": {field: {"$in": ids, "$type": "string"}}}]
            if field != "group_id":
                pipeline += [{"$unwind": "$seats"}, {"$match": {field: {"$in": ids}}}]
            pipeline.append({"$group": {"_id": f"${field}", "n": {"$sum": 1}}})
            async for row in self._placements.aggregate(pipeline):
                counts[row["_id"]] = counts.get(row["_id"], 0) + row["n"]
        return counts

    async def save_preview(
        self, preview: Preview, policy: Policy | None = None, session: Session | None = None
    ) -> None:
        row = PREVIEWS.encode(preview)
        if policy is not None:
            row["policy"] = POLICIES.encode(policy)
        key = {"_id": row.pop("_id")}
        await self._previews.update_one(key, {"$set": row}, upsert=True, session=session)

    async def preview(self, id_: str) -> tuple[Preview, Policy] | None:
        row = await self._previews.find_one({"_id": id_})
        return (PREVIEWS.decode(row), POLICIES.decode(row["policy"])) if row else None

    async def save_differences(
        self,
        preview: str,
        differences: Sequence[Difference],
        now: datetime,
        session: Session | None = None,
    ) -> None:
        rows: list[ReplaceOne[Document]] = []
        for each in differences:
            id_ = f"{preview}/{each.key}"
            row = DIFFERENCES.encode(each) | {"preview": preview, "at": now}
            rows.append(ReplaceOne({"_id": id_}, row, upsert=True))
        if rows:
            await self._differences.bulk_write(rows, ordered=False, session=session)

    async def differences(self, preview: str, after: str, limit: int) -> list[Difference]:
        """In the order of their keys."""
        bounds = {"$gt": f"{preview}/{after}", "$lt": f"{preview}0"}  # 0 sorts just after /
        rows = self._differences.find({"_id": bounds}).sort("_id", ASCENDING).limit(limit)
        return [DIFFERENCES.decode(row) async for row in rows]


async def _previews(database: Database) -> None:
    seconds = int(KEPT.total_seconds())
    await create(
        database,
        "policy_previews",
        required={"policy": {"bsonType": "object"}},
        indexes=[IndexModel("created_at", expireAfterSeconds=seconds)],
    )
    await create(
        database,
        "policy_differences",
        required={"preview": {"bsonType": "string"}},
        indexes=[IndexModel("at", expireAfterSeconds=seconds)],
    )


MIGRATIONS: Final = (Migration("policy-0001", "previews of policies", _previews),)
