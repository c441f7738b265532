"""Collections of group admins.

`role_holders {_id: member id, sequence, roles [{role, unit, until?}]}`: those who hold or held a role
`group_admins {_id: group id/member id, group_id, member_id, at, by}`
`admin_tasks {_id, group_id, kind, member_id, erasure_id?, successor?, created_at, done_at?}`
`admin_pages {_id, group_id, member_id?, issued_by, expires_at, revoked?}`: links to the page that were given
"""

from __future__ import annotations

from collections.abc import Collection as Many
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pymongo import ASCENDING, IndexModel, InsertOne, UpdateOne

from services.groups.admins.domain import Lack, RoleHolder, TaskKind
from services.groups.core.domain import Group
from services.groups.core.store import GROUPS, Write, by_id, write
from services.shared.contracts.vocabulary import lineage, subtree
from services.shared.database import Codec, Database, Document, Migration, Session, create

HOLDERS: Final = Codec(RoleHolder, id_field="member_id")
MAX_HOLDERS: Final = 200
MAX_TASKS: Final = 200
PAGES_KEPT_SECONDS: Final = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Appointment:
    """A member who runs a group; `by` is who appointed them."""

    id: str
    group_id: str
    member_id: str
    at: datetime
    by: str


@dataclass(frozen=True, slots=True)
class Task:
    """A stored task, for somebody who was erased or left. Others are found in what rosters show."""

    id: str
    group_id: str
    kind: TaskKind
    member_id: str
    created_at: datetime
    erasure_id: str | None = None
    successor: str | None = None
    done_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A link to the page of a group, for `member_id` if it was given to one of its admins."""

    id: str
    group_id: str
    issued_by: str
    expires_at: datetime
    member_id: str | None = None
    revoked: bool | None = None


APPOINTMENTS: Final = Codec(Appointment, id_field="id")
TASKS: Final = Codec(Task, id_field="id", omit_none=["erasure_id", "successor", "done_at"])
PAGES: Final = Codec(Page, id_field="id", omit_none=["member_id", "revoked"])

_PROBLEMS: Final[Mapping[Lack, Document]] = {
    Lack.NO_LINK: {"sealed_link": {"$exists": False}, "invite_link": None},
    Lack.NO_ADMIN: {"admins": {"$in": [0, None]}},  # None: made by a process of release 0.1.0
    Lack.ONE_ADMIN: {"admins": 1},
}


class AdminStore:
    def __init__(self, database: Database) -> None:
        self._holders = database["role_holders"]
        self._admins = database["group_admins"]
        self._tasks = database["admin_tasks"]
        self._pages = database["admin_pages"]
        self._groups = database["groups"]

    async def holders(self, member_ids: Many[str], session: Session) -> dict[str, RoleHolder]:
        return await by_id(self._holders, HOLDERS, member_ids, session)

    async def holders_over(self, units: Many[str], session: Session | None = None) -> list[RoleHolder]:
        """Members with a role in one of these units, or in one above it."""
        above = sorted({code for unit in units for code in lineage(unit)})
        rows = self._holders.find({"roles.unit": {"$in": above}}, session=session).limit(MAX_HOLDERS)
        return [HOLDERS.decode(row) async for row in rows]

    async def save_holders(self, holders: Sequence[RoleHolder], known: Many[str], session: Session) -> None:
        writes: list[Write] = []
        for each in holders:
            row = HOLDERS.encode(each)
            if each.member_id in known:
                writes.append(UpdateOne({"_id": row.pop("_id")}, {"$set": row}))
            else:
                writes.append(InsertOne(row))
        await write(self._holders, writes, session)

    async def admins(self, group_ids: Many[str], session: Session | None = None) -> list[Appointment]:
        rows = self._admins.find({"group_id": {"$in": list(group_ids)}}, session=session).sort(
            "at", ASCENDING
        )
        return [APPOINTMENTS.decode(row) async for row in rows]

    async def admin_of(self, member_ids: Many[str], session: Session) -> list[Appointment]:
        rows = self._admins.find({"member_id": {"$in": list(member_ids)}}, session=session)
        return [APPOINTMENTS.decode(row) async for row in rows]

    async def appoint(self, appointment: Appointment, session: Session) -> None:
        await self._admins.insert_one(APPOINTMENTS.encode(appointment), session=session)

    async def dismiss(self, ids: Many[str], session: Session) -> None:
        await self._admins.delete_many({"_id": {"$in": list(ids)}}, session=session)

    async def add_tasks(self, tasks: Sequence[Task], session: Session) -> None:
        """Tasks that are there already stay as they are."""
        known = await by_id(self._tasks, TASKS, [each.id for each in tasks], session)
        await write(
            self._tasks, [InsertOne(TASKS.encode(each)) for each in tasks if each.id not in known], session
        )

    async def name_erasures(self, erasures: Mapping[str, str], session: Session) -> None:
        """Note the erasure, by member, in open tasks that have none."""
        query: Document = {"member_id": {"$in": list(erasures)}, "kind": TaskKind.REMOVE.value}
        rows = self._tasks.find(query | {"erasure_id": {"$exists": False}}, {"member_id": 1}, session=session)
        writes: list[Write] = [
            UpdateOne({"_id": row["_id"]}, {"$set": {"erasure_id": erasures[row["member_id"]]}})
            async for row in rows
        ]
        await write(self._tasks, writes, session)

    async def drop_removals(self, member_ids: Many[str], session: Session) -> None:
        query: Document = {"member_id": {"$in": list(member_ids)}, "kind": TaskKind.REMOVE.value}
        await self._tasks.delete_many(query | {"done_at": {"$exists": False}}, session=session)

    async def open_tasks(self, group_id: str) -> list[Task]:
        rows = self._tasks.find({"group_id": group_id, "done_at": {"$exists": False}})
        return [TASKS.decode(row) async for row in rows.sort("_id", ASCENDING).limit(MAX_TASKS)]

    async def observed(self, group_id: str) -> Document:
        row = await self._groups.find_one({"_id": group_id}, {"observed": 1})
        found: Document = row.get("observed", {}) if row else {}
        return found

    async def finish(self, id_: str, at: datetime) -> None:
        await self._tasks.update_one({"_id": id_, "done_at": {"$exists": False}}, {"$set": {"done_at": at}})

    async def add_page(self, page: Page) -> None:
        await self._pages.insert_one(PAGES.encode(page))

    async def page(self, id_: str) -> Page | None:
        row = await self._pages.find_one({"_id": id_})
        return PAGES.decode(row) if row else None

    async def revoke(self, query: Document, session: Session | None = None) -> None:
        """`query` names the pages: by `group_id`, `member_id`."""
        await self._pages.update_many(query, {"$set": {"revoked": True}}, session=session)

    async def gaps(
        self, unit: str | None, problem: Lack | None, after: tuple[str, str] | None, limit: int
    ) -> list[Group]:
        """Groups that lack something, in the order of (unit, id): one index serves the subtree and the
        cursor."""
        lacking = [_PROBLEMS[problem]] if problem else list(_PROBLEMS.values())
        conditions: list[Document] = [{"$or": lacking}, {"retired": {"$ne": "archived"}}]
        if unit is not None:
            conditions.append({"unit": subtree(unit)})
        if after is not None:
            conditions.append(
                {"$or": [{"unit": {"$gt": after[0]}}, {"unit": after[0], "_id": {"$gt": after[1]}}]}
            )
        rows = self._groups.find({"$and": conditions}).sort([("unit", ASCENDING), ("_id", ASCENDING)])
        return [GROUPS.decode(row) async for row in rows.limit(limit)]

    async def count_gaps(self) -> dict[str, int]:
        """Groups by what they lack; one may lack several things."""
        return {
            problem.value: await self._groups.count_documents({"taken": {"$gt": 0}, **query})
            for problem, query in _PROBLEMS.items()
        }


async def _create(database: Database) -> None:
    text: Document = {"bsonType": "string"}
    await create(
        database,
        "role_holders",
        required={"sequence": {"bsonType": ["int", "long"]}, "roles": {"bsonType": "array"}},
        indexes=[IndexModel("roles.unit")],
    )
    await create(
        database,
        "group_admins",
        required={"group_id": text, "member_id": text},
        indexes=[IndexModel([("group_id", 1), ("at", 1)]), IndexModel("member_id")],
    )
    await create(
        database,
        "admin_tasks",
        required={"group_id": text, "member_id": text, "kind": {"enum": [kind.value for kind in TaskKind]}},
        indexes=[IndexModel([("group_id", 1), ("done_at", 1)]), IndexModel("member_id")],
    )
    await create(
        database,
        "admin_pages",
        required={"group_id": text, "expires_at": {"bsonType": "date"}},
        indexes=[
            IndexModel("group_id"),
            IndexModel("member_id", sparse=True),
            IndexModel("expires_at", expireAfterSeconds=PAGES_KEPT_SECONDS),
        ],
    )


MIGRATIONS: Final = (Migration("admins-0001", "roles, admins, their tasks and pages", _create),)
