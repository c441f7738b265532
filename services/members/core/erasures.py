"""Erasures and what they remove.

`erasures`: `Erasure`, one for each member who was erased, for good; `number` is the sealed `{name, phone}` of
somebody who has still to be removed from a chat group. `erasure_seals`: `{_id: erasure id, phone_index,
sealed}`, what was known of a member whose rule keeps it for a time; no route reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from services.members.core.erasing import Erasure, ErasureState
from services.shared.contracts.vocabulary import subtree
from services.shared.database import Codec, Collection, Database, Document, Session
from services.shared.encryption import Ciphertext, Vault

ERASURES: Final = "erasures"
SEALS: Final = "erasure_seals"
ERASURE: Final = Codec(Erasure, id_field="id", omit_none=("next_at",))
HELD: Final = (
    ("consent_ledger", "member_id"),
    ("role_terms", "member_id"),
    ("role_history", "member_id"),
    ("lost", "_id"),
    ("duplicates", "members"),
    ("merge_traces", "members"),
    ("grievances", "member_id"),
)
"""Collections with rows about one member, and the field that names the member. `contact_reads`,
`incident_affected` and `merges` are not among them: they are the record of who looked, who was affected and
what was done, and have ids alone."""
PLANNED_FOR: Final = timedelta(days=8)
"""Imports younger than that remember which phones their file named."""


class Removed(NamedTuple):
    """A member's document and the rows about them, by collection, before they were deleted."""

    member: Document | None
    rows: dict[str, list[Document]]

    def counts(self) -> dict[str, int]:
        return {
            "members": int(self.member is not None),
            **{name: len(rows) for name, rows in self.rows.items()},
        }


class ErasureStore:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._members: Collection = database["members"]
        self._erasures: Collection = database[ERASURES]
        self._seals: Collection = database[SEALS]

    async def find(self, erasure_id: str, session: Session | None = None) -> Erasure | None:
        row = await self._erasures.find_one({"_id": erasure_id}, session=session)
        return ERASURE.decode(row) if row else None

    async def find_many(self, erasure_ids: Iterable[str], session: Session) -> dict[str, Erasure]:
        rows = self._erasures.find({"_id": {"$in": list(erasure_ids)}}, session=session)
        return {row["_id"]: ERASURE.decode(row) async for row in rows}

    async def of_members(
        self, member_ids: Iterable[str], session: Session | None = None
    ) -> dict[str, Erasure]:
        """The erasures of these members, by member id."""
        rows = self._erasures.find({"member_id": {"$in": list(member_ids)}}, session=session)
        return {row["member_id"]: ERASURE.decode(row) async for row in rows}

    async def sealed_phones(self, indexes: Iterable[str]) -> set[str]:
        """The ones among these fingerprints that are of somebody whose data are still sealed."""
        rows = self._seals.find({"phone_index": {"$in": list(indexes)}}, {"phone_index": 1})
        return {row["phone_index"] async for row in rows}

    async def page(self, root: str | None, state: str | None, after: str | None, limit: int) -> list[Erasure]:
        """At most `limit` erasures, the newest first, after the id `after`; `root`: of a subtree."""
        query: Document = {"unit": subtree(root)} if root else {}
        if state is not None:
            query["state"] = state
        if after is not None:
            query["_id"] = {"$lt": after}
        rows = await self._erasures.find(query).sort("_id", -1).limit(limit).to_list(limit)
        return [ERASURE.decode(row) for row in rows]

    async def due(self, now: datetime, limit: int) -> list[str]:
        rows = self._erasures.find({"next_at": {"$lte": now}}, {"_id": 1}).sort("next_at", 1).limit(limit)
        return [row["_id"] async for row in rows]

    async def oldest_open(self) -> datetime | None:
        """When the oldest request was made that somebody has not acknowledged."""
        query = {"state": ErasureState.REQUESTED.value}
        row = await self._erasures.find_one(query, {"requested_at": 1}, sort=[("requested_at", 1)])
        return row["requested_at"] if row else None

    async def add(self, erasure: Erasure, number: Ciphertext | None, session: Session) -> None:
        document = ERASURE.encode(erasure)
        if number is not None:
            document["number"] = number
        await self._erasures.insert_one(document, session=session)

    async def save(self, erasure: Erasure, session: Session) -> None:
        """Write the erasure; what it does not need any more, number and seal, is destroyed with it."""
        document = ERASURE.encode(erasure)
        gone = {name: "" for name in ERASURE.omitted if name not in document}
        if not erasure.needs_number:
            gone["number"] = ""
        change = {"$set": document, **({"$unset": gone} if gone else {})}
        await self._erasures.update_one({"_id": document.pop("_id")}, change, session=session)
        if not erasure.needs_seal:
            await self._seals.delete_one({"_id": erasure.id}, session=session)

    async def number(self, erasure_id: str) -> Ciphertext | None:
        row = await self._erasures.find_one({"_id": erasure_id}, {"number": 1})
        return row.get("number") if row else None

    async def remove(
        self, member_id: str, now: datetime, session: Session, fingerprints: Callable[[Document], list[str]]
    ) -> Removed:
        """Delete all that the service knows of a member; answers what it was. `fingerprints` are those that
        files may have named the stored member by."""
        member = await self._members.find_one({"_id": member_id}, session=session)
        rows: dict[str, list[Document]] = {}
        for name, field in HELD:
            about = {field: member_id}
            rows[name] = await self._database[name].find(about, session=session).to_list(None)
            await self._database[name].delete_many(about, session=session)
        if member is not None:
            await self._members.delete_one({"_id": member_id}, session=session)
            await self._forget_imports([member_id, *fingerprints(member)], now, session)
            # By its time, which has an index and is that of the registration. The key stays, without what it
            # was used for: the request that is sent again makes nobody.
            answer = {"at": member["joined_at"], "member._id": member_id}
            emptied = {"$set": {"fingerprint": b""}, "$unset": {"member": ""}}
            await self._database["idempotency"].update_many(answer, emptied, session=session)
        return Removed(member, rows)

    async def seal(self, erasure: Erasure, removed: Removed, vault: Vault, session: Session) -> None:
        """Keep what was removed, sealed, until the erasure no longer needs it."""
        if removed.member is None:
            return
        [sealed] = await vault.seal([(erasure.id, {"member": removed.member, **removed.rows})])
        row = {"_id": erasure.id, "phone_index": removed.member["phone_index"], "sealed": sealed}
        await self._seals.insert_one(row, session=session)

    async def _forget_imports(self, names: Sequence[str], now: datetime, session: Session) -> None:
        """Forget that files of late named the member. Their lines in plans, sealed, expire, and are neither
        applied nor shown any more."""
        recent = self._database["imports"].find({"at": {"$gte": now - PLANNED_FOR}}, {"_id": 1})
        imports = [row["_id"] async for row in recent]
        named = {"_id": {"$in": [f"{import_id}/{key}" for import_id in imports for key in names]}}
        lines: dict[str, list[int]] = {}
        async for row in self._database["import_seen"].find(named, session=session):
            lines.setdefault(row["_id"].partition("/")[0], []).append(row["line"])
        for import_id, about in lines.items():
            erased = {"$addToSet": {"erased_lines": {"$each": about}}}
            await self._database["imports"].update_one({"_id": import_id}, erased, session=session)
        await self._database["import_seen"].delete_many(named, session=session)
