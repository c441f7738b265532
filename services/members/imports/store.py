"""The collections of imports, and their queries.

`imports`: one document per file, without anything personal: who asked (`by`, `unit`), the `terms`, how the
file is read (`form`, `fields`), the counts of the plan and of what was applied. `header` is sealed, because a
file without a header has a person in its first line.
`import_pages`: the rows of one slice of a file, as two sealed fields: `plan` (rows to apply, deleted once
applied) and `refused` (rows to mend), and `aside` (rows whose member changed between plan and application).
`import_seen`: the phones (as fingerprints) and members that a file has named so far.
`import_welcomes`: one document, `until`: before that time no import welcomes anybody else.
Pages and what was seen are deleted after `RETENTION`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from pymongo import IndexModel, UpdateOne

from services.members.core.domain import Member, Status
from services.members.core.store import Record, SealedContact, document_of, record_of, unique
from services.shared.contracts.vocabulary import subtree
from services.shared.database import Collection, Database, Document, Migration, Session, create
from services.shared.errors import TransientError

RETENTION: Final = timedelta(days=7)
"""How long a plan can be applied, and refused rows be fetched."""
_NUMBER: Final = 8
_BUDGET: Final = "welcomes"
_GONE: Final = {
    Status.LEFT: (("phone_index", "phone_index_of_left"),),
    Status.MERGED: (("phone_index", "phone_index_of_merged"), ("former_phone", "former_phone")),
}
"""The fields, and their indexes, that have the phones of members who are gone."""


class ImportStore:
    def __init__(self, database: Database) -> None:
        self._imports: Collection = database["imports"]
        self._pages: Collection = database["import_pages"]
        self._seen: Collection = database["import_seen"]
        self._welcomes: Collection = database["import_welcomes"]
        self._members: Collection = database["members"]

    async def add(self, document: Document, session: Session) -> None:
        await self._imports.insert_one(document, session=session)

    async def find(self, import_id: str, session: Session | None = None) -> Document | None:
        row: Document | None = await self._imports.find_one({"_id": import_id}, session=session)
        return row

    async def page(self, root: str | None, after: str | None, limit: int) -> list[Document]:
        """At most `limit` imports, the newest first, after the id `after`; `root` limits them to the units of
        a subtree."""
        query: Document = {"unit": subtree(root)} if root else {}
        if after is not None:
            query["_id"] = {"$lt": after}
        return await self._imports.find(query).sort("_id", -1).limit(limit).to_list(limit)

    async def count(
        self, import_id: str, by: Mapping[str, int], session: Session, fields: Document | None = None
    ) -> None:
        """Add to an import's counts (`{"counts.new": 3}`), and set `fields`."""
        change: Document = {"$inc": dict(by)} if by else {}
        if fields:
            change["$set"] = fields
        if change:
            await self._imports.update_one({"_id": import_id}, change, session=session)

    async def set_apply_job(self, import_id: str, before: str | None, job_id: str, session: Session) -> bool:
        """False when the import has another job by now."""
        query = {"_id": import_id, "apply_job": before}
        result = await self._imports.update_one(query, {"$set": {"apply_job": job_id}}, session=session)
        return bool(result.matched_count)

    async def add_page(self, page: Document, session: Session) -> None:
        await self._pages.insert_one(page, session=session)

    async def next_unapplied(self, import_id: str, after: str | None) -> Document | None:
        """The first page with rows that are still to be applied, after the page `after`."""
        range_ = _of(import_id) | ({"$gt": after} if after else {})
        query = {"_id": range_, "plan": {"$exists": True}}
        row: Document | None = await self._pages.find_one(query, {"refused": 0}, sort=[("_id", 1)])
        return row

    async def close_page(self, page_id: str, aside: bytes | None, session: Session) -> None:
        """The page is applied, and `aside` holds the rows that are not.

        Raises: `TransientError` when it had been applied before.
        """
        change: Document = {"$unset": {"plan": ""}}
        if aside is not None:
            change["$set"] = {"aside": aside}
        query = {"_id": page_id, "plan": {"$exists": True}}
        result = await self._pages.update_one(query, change, session=session)
        if not result.matched_count:
            raise TransientError("the page was applied meanwhile")

    async def pages(self, import_id: str, start: str | None, *fields: str) -> AsyncIterator[Document]:
        """The pages in the order of the file, from the page `start`, with `fields` alone."""
        query = _of(import_id) | ({"$gte": start} if start else {})
        async for row in self._pages.find({"_id": query}, list(fields), batch_size=4).sort("_id", 1):
            yield row

    async def seen(self, import_id: str, keys: Iterable[str]) -> dict[str, int]:
        """The line on which the file named each of `keys` before, if it did."""
        ids = [f"{import_id}/{key}" for key in keys]
        rows = self._seen.find({"_id": {"$in": ids}})
        return {row["_id"].partition("/")[2]: row["line"] async for row in rows}

    async def see(self, import_id: str, lines: Mapping[str, int], at: Any, session: Session) -> None:
        rows = [{"_id": f"{import_id}/{key}", "line": line, "at": at} for key, line in lines.items()]
        if rows:
            await self._seen.insert_many(rows, session=session)

    async def welcoming_from(self) -> datetime | None:
        """From when on the budget allows the next welcomes; None before the first."""
        row = await self._welcomes.find_one({"_id": _BUDGET})
        return row["until"] if row else None

    async def welcome(self, now: datetime, share: timedelta, session: Session) -> None:
        """Use up the budget for the time `share`.

        Raises: `TransientError` when it is used up already.
        """
        change = {"$set": {"until": now + share}}
        before = await self._welcomes.find_one_and_update(
            {"_id": _BUDGET}, change, upsert=True, session=session
        )
        if before and before["until"] > now:
            raise TransientError("another import has used up the budget of welcomes")

    async def members(self, ids: Iterable[str]) -> dict[str, Record]:
        rows = self._members.find({"_id": {"$in": list(ids)}})
        return {row["_id"]: record_of(row) async for row in rows}

    async def active_by_phone(self, indexes: Sequence[str]) -> dict[str, Record]:
        """By fingerprint, the active members who have one of these phones."""
        query = {"phone_index": {"$in": indexes}, "status": Status.ACTIVE.value}
        return {row["phone_index"]: record_of(row) async for row in self._members.find(query)}

    async def reached_by(self, ids: Iterable[str]) -> list[Record]:
        """The active members whom one of these members reaches."""
        query = {"reached_by": {"$in": list(ids)}, "status": Status.ACTIVE.value}
        return [record_of(row) async for row in self._members.find(query)]

    async def gone_by_phone(self, indexes: Sequence[str], status: Status) -> dict[str, str]:
        """`{fingerprint: member id}` of the ones among `indexes` that belonged to a member who has this
        status: left, or merged."""
        found: dict[str, str] = {}
        for field, index in _GONE[status]:
            query = {field: {"$in": indexes}, "status": status.value}
            rows = self._members.find(query, {field: 1}).hint(index)
            found |= {row[field]: row["_id"] async for row in rows}
        return found

    async def change(
        self, changes: Sequence[tuple[Member, Member, SealedContact | None]], session: Session
    ) -> None:
        """Write members `(before, after, new contact)` over the versions that they were before.

        Raises: `TransientError` when one has changed meanwhile; `DuplicateError` when a phone was taken.
        """
        if not changes:
            return
        writes = [_update(*each) for each in changes]
        with unique():
            result = await self._members.bulk_write(writes, ordered=False, session=session)
        if result.matched_count < len(writes):
            raise TransientError("a member changed meanwhile")


def page_id(import_id: str, number: int) -> str:
    return f"{import_id}/{number:0{_NUMBER}}"


def _of(import_id: str) -> Document:
    """The range of the ids of an import's pages: `/` sorts just below `0`."""
    return {"$gt": import_id + "/", "$lt": import_id + "0"}


def _update(before: Member, after: Member, contact: SealedContact | None) -> UpdateOne:
    old, new = document_of(before), document_of(after, contact)
    changed = {name: value for name, value in new.items() if old.get(name) != value}
    gone = {name: "" for name in old if name not in new}
    change = {"$set": changed, **({"$unset": gone} if gone else {})}
    return UpdateOne({"_id": before.id, "version": before.version}, change)


async def _create(database: Database) -> None:
    seconds = int(RETENTION.total_seconds())
    await create(
        database,
        "imports",
        required={"by": {"bsonType": "string"}, "unit": {"bsonType": "string"}, "at": {"bsonType": "date"}},
        indexes=[IndexModel([("unit", 1), ("_id", -1)])],
    )
    for name in ("import_pages", "import_seen"):
        await create(database, name, indexes=[IndexModel("at", expireAfterSeconds=seconds)])
    left = IndexModel(
        "phone_index",
        name="phone_index_of_left",
        partialFilterExpression={"status": Status.LEFT.value},
    )
    await database["members"].create_indexes([left])


async def _create_budget(database: Database) -> None:
    await create(database, "import_welcomes")


async def _reached(database: Database) -> None:
    some = {"reached_by": {"$type": "string"}}
    await database["members"].create_indexes([IndexModel("reached_by", partialFilterExpression=some)])


MIGRATIONS: Final = (
    Migration("imports-0001", "imports, their pages, phones of those who left", _create),
    Migration("imports-0002", "import_welcomes", _create_budget),
    Migration("imports-0003", "members who are reached by others", _reached),
)
