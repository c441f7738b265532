"""The queries of retention, and the migrations of erasures, whose queries are core: a restore applies
erasures too.

`members` has `former_phone` in place of `phone_index` for a member who was merged and whose contact was
destroyed: its fingerprint, by which an import of an old list finds that the person is a member.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from pymongo import IndexModel

from services.members.core.domain import Status
from services.members.core.erasing import ErasureState
from services.members.core.erasures import ERASURES, SEALS
from services.members.core.store import MemberStore
from services.shared.database import Database, Document, Migration, create
from services.shared.encryption import Ciphertext

_LEFT: Final = "left_with_contact"
_MERGED: Final = "merged_with_contact"


class RetentionStore(MemberStore):
    """Contacts of those who left long ago, and of records that were merged into another and stay so."""

    async def left_before(self, before: datetime, limit: int) -> list[str]:
        """Members who left before then and whose contact is still kept."""
        return await self._with_contact(Status.LEFT, _LEFT, before, limit)

    async def merged_before(self, before: datetime, limit: int) -> list[str]:
        """Members who were merged before then and whose contact is still kept."""
        return await self._with_contact(Status.MERGED, _MERGED, before, limit)

    async def _with_contact(self, status: Status, index: str, before: datetime, limit: int) -> list[str]:
        query = {"status": status.value, "phone_index": {"$gt": ""}, "updated_at": {"$lt": before}}
        rows = self._members.find(query, {"_id": 1}).hint(index).limit(limit)
        return [row["_id"] async for row in rows]

    async def drop_left(self, emptied: Sequence[tuple[str, Ciphertext]], before: datetime) -> int:
        """Put an empty contact in the place of each, and forget the former phones of records that were merged
        into them; how many. Whoever changed meanwhile keeps theirs for now."""
        changes = [({"$set": {"contact": empty, "phone_index": ""}}, id_) for id_, empty in emptied]
        dropped = await self._drop(Status.LEFT, changes, before)
        into = [member_id for member_id, _ in emptied]
        while into:
            query = {"merged_into": {"$in": into}, "status": Status.MERGED.value}
            await self._members.update_many(query, {"$unset": {"former_phone": ""}})
            into = [row["_id"] async for row in self._members.find(query, {"_id": 1})]
        return dropped

    async def drop_merged(self, emptied: Sequence[tuple[str, Ciphertext]], before: datetime) -> int:
        """Put an empty contact in the place of each; how many. The fingerprint stays as `former_phone`, but
        not that of a person whose own contact is gone."""
        survivors = await self.survivors([member_id for member_id, _ in emptied])
        query = {"_id": {"$in": list(survivors.values())}, "status": Status.LEFT.value, "phone_index": ""}
        gone = {row["_id"] async for row in self._members.find(query, {"_id": 1})}
        changes = []
        for member_id, empty in emptied:
            former = {} if survivors.get(member_id) in gone else {"former_phone": "$phone_index"}
            changes.append(([{"$set": {"contact": empty, "phone_index": "", **former}}], member_id))
        return await self._drop(Status.MERGED, changes, before)

    async def _drop(self, status: Status, changes: Iterable[tuple[Any, str]], before: datetime) -> int:
        dropped = 0
        for change, member_id in changes:
            query = {"_id": member_id, "status": status.value, "updated_at": {"$lt": before}}
            dropped += (await self._members.update_one(query, change)).modified_count
        return dropped


_TEXT: Final[Document] = {"bsonType": "string"}
_DATE: Final[Document] = {"bsonType": "date"}


async def _create(database: Database) -> None:
    await create(
        database,
        ERASURES,
        required={
            "member_id": _TEXT,
            "unit": _TEXT,
            "state": {"enum": [state.value for state in ErasureState]},
            "requested_at": _DATE,
        },
        indexes=[
            IndexModel("member_id", unique=True),
            IndexModel([("unit", 1), ("_id", -1)]),
            IndexModel([("state", 1), ("requested_at", 1)]),
            IndexModel("next_at", sparse=True),
        ],
    )
    await create(database, SEALS, required={"sealed": {"bsonType": "binData"}})
    await database[SEALS].create_indexes([IndexModel("phone_index")])
    left = IndexModel(
        [("status", 1), ("updated_at", 1)],
        name=_LEFT,
        partialFilterExpression={"status": Status.LEFT.value, "phone_index": {"$gt": ""}},
    )
    merged = IndexModel(
        "merged_into", name="merged_into", partialFilterExpression={"status": Status.MERGED.value}
    )
    kept = IndexModel(
        [("status", 1), ("updated_at", 1)],
        name=_MERGED,
        partialFilterExpression={"status": Status.MERGED.value, "phone_index": {"$gt": ""}},
    )
    former = IndexModel(
        "former_phone", name="former_phone", partialFilterExpression={"former_phone": {"$exists": True}}
    )
    await database["members"].create_indexes([left, merged, kept, former])


MIGRATIONS: Final = (
    Migration("erasure-0001", "erasures, their seals, contacts of those who left or were merged", _create),
)
