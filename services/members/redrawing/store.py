"""The collection of redrawing, and its queries of members and their terms.

`redrawings {_id: code, state, at}`: the units that there are no more. `state` is `pending` while members or
roles may have to follow, `followed`, or `unmapped` for one without a sole successor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from pymongo import DeleteOne, IndexModel, UpdateOne

from services.members.core.domain import Member, Status
from services.members.core.search_fields import search_fields
from services.members.core.store import MEMBER
from services.members.core.term_store import TERM, TermStore
from services.members.core.terms import Term
from services.shared.contracts.vocabulary import subtree
from services.shared.database import Collection, Database, Document, Migration, Session, create

PENDING: Final = "pending"
FOLLOWED: Final = "followed"
UNMAPPED: Final = "unmapped"
CODES: Final = 1000
"""Units that one query asks for."""


class RedrawingStore(TermStore):
    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._redrawings: Collection = database["redrawings"]
        self._members: Collection = database["members"]

    async def mark(self, states: Mapping[str, str], now: datetime, session: Session | None = None) -> None:
        writes = [
            UpdateOne({"_id": code}, {"$set": {"state": state, "at": now}}, upsert=True)
            for code, state in states.items()
        ]
        if writes:
            await self._redrawings.bulk_write(writes, ordered=False, session=session)

    async def pending(self, limit: int, session: Session | None = None) -> list[str]:
        rows = self._redrawings.find({"state": PENDING}, {"_id": 1}, session=session).sort("_id", 1)
        return [row["_id"] for row in await rows.limit(limit).to_list(limit)]

    async def codes(self, state: str, after: str, root: str | None = None, limit: int = CODES) -> list[str]:
        """Units of that state in the order of their codes, from the one after `after`."""
        query: Document = {"state": state, "_id": {**(subtree(root) if root else {}), "$gt": after}}
        rows = self._redrawings.find(query, {"_id": 1}).sort("_id", 1).limit(limit)
        return [row["_id"] async for row in rows]

    async def concerned(self, codes: Sequence[str], limit: int, session: Session) -> list[str]:
        """Members who are in these units, or hold a role in one."""
        query = {"unit": {"$in": list(codes)}, "status": Status.ACTIVE.value}
        rows = self._members.find(query, {"_id": 1}, session=session).limit(limit)
        ids = [row["_id"] async for row in rows]
        if len(ids) < limit:
            terms = self._terms.find({"unit": {"$in": list(codes)}}, {"member_id": 1}, session=session)
            ids += [row["member_id"] async for row in terms.limit(limit - len(ids))]
        return list(dict.fromkeys(ids))

    async def inhabited(self, codes: Sequence[str]) -> list[str]:
        """The units among these that an active member is in, or a role is held in."""
        query: Document = {"unit": {"$in": list(codes)}}
        units: list[str] = await self._members.distinct("unit", {**query, "status": Status.ACTIVE.value})
        return [*units, *await self._terms.distinct("unit", query)]

    async def count_in(self, codes: Sequence[str]) -> int:
        query = {"unit": {"$in": list(codes)}, "status": Status.ACTIVE.value}
        return await self._members.count_documents(query)

    async def members_in(
        self, codes: Sequence[str], after: tuple[str, str] | None, limit: int
    ) -> list[tuple[str, str]]:
        """`(unit, member id)` of the active members of these units, in that order, after a position."""
        query: Document = {"unit": {"$in": list(codes)}, "status": Status.ACTIVE.value}
        if after is not None:
            query["$or"] = [{"unit": {"$gt": after[0]}}, {"unit": after[0], "_id": {"$gt": after[1]}}]
        rows = self._members.find(query, {"unit": 1}).sort([("unit", 1), ("_id", 1)]).limit(limit)
        return [(row["unit"], row["_id"]) async for row in rows]

    async def members(self, ids: Sequence[str], session: Session) -> dict[str, Member]:
        rows = self._members.find({"_id": {"$in": list(ids)}}, session=session)
        return {row["_id"]: MEMBER.decode(row) async for row in rows}

    async def terms_of(self, ids: Sequence[str], session: Session) -> dict[str, list[Term]]:
        found: dict[str, list[Term]] = {}
        async for row in self._terms.find({"member_id": {"$in": list(ids)}}, session=session).sort("_id", 1):
            found.setdefault(row["member_id"], []).append(TERM.decode(row))
        return found

    async def save_members(
        self, before: Mapping[str, Member], after: Iterable[Member], session: Session
    ) -> None:
        """Write the fields that a redrawing changes, over the versions that this transaction has read."""
        writes = []
        for member in after:
            document = MEMBER.encode(member)
            fields = {name: document[name] for name in ("unit", "roles", "version", "updated_at")}
            query = {"_id": member.id, "version": before[member.id].version}
            writes.append(UpdateOne(query, {"$set": fields | search_fields(member)}))
        if writes:
            result = await self._members.bulk_write(writes, ordered=False, session=session)
            assert result.matched_count == len(writes), "what the transaction has read, it can write"

    async def save_terms(
        self, changed: Sequence[Term], gone: Sequence[Term], now: datetime, session: Session
    ) -> None:
        """The gone first: a term may take the place of one of them."""
        writes: list[DeleteOne | UpdateOne] = [DeleteOne({"_id": term.id}) for term in gone]
        for term in changed:
            fields: Document = {"unit": term.unit, "since": term.since}
            update: Document = {"$set": fields}
            for name, value in (("until", term.until), ("due_at", term.changes_at(now))):
                if value is None:
                    update.setdefault("$unset", {})[name] = ""
                else:
                    fields[name] = value
            writes.append(UpdateOne({"_id": term.id}, update))
        if writes:
            await self._terms.bulk_write(writes, ordered=True, session=session)


async def _create(database: Database) -> None:
    state = {"state": {"bsonType": "string"}}
    await create(database, "redrawings", required=state, indexes=[IndexModel([("state", 1), ("_id", 1)])])


MIGRATIONS: Final = (Migration("redrawing-0001", "units that there are no more", _create),)
