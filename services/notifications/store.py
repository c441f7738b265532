"""The only queries of the notifications service.

`recipients {_id: member id, joined, found, active, unit, language, channels, group_id, contact_sequence, *_sequence}`
`group_invites {_id: group id, ready, sequence, awaited?}`
`notifications {_id, member_id, unit, purpose, template, language, channel?, group_id?, state, reason?, held_for?, stop?,
open?, attempts[], due_at?, claim?, sequence, cause, created_at, updated_at}`: fields without a value are absent, which
keeps finished ones out of the dispatcher's indexes; `open` is true until one is finished.
`contacts {_id: member id, version, sealed, at}`: the encrypted cache.
"""

from __future__ import annotations

from collections.abc import Collection as Many
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from bson.binary import Binary
from pymongo import ASCENDING, ReplaceOne, UpdateOne

from services.notifications.documents import (
    notification_of,
    recipient_of,
    row_of_notification,
    row_of_recipient,
)
from services.notifications.domain import WELCOME, Notification, State
from services.notifications.recipients import Recipient
from services.shared.contracts.vocabulary import subtree
from services.shared.database import Database, Document, Session
from services.shared.ids import new_id


@dataclass(frozen=True, slots=True)
class Search:
    """What a list asks for. `root` is the unit whose subtree the caller may see, None all units."""

    root: str | None
    member_id: str | None = None
    state: str | None = None


class Store:
    def __init__(self, database: Database) -> None:
        self._recipients = database["recipients"]
        self._invites = database["group_invites"]
        self._notifications = database["notifications"]
        self._contacts = database["contacts"]

    # -- recipients ----------------------------------------------------------------------------------------

    async def recipients(self, member_ids: Many[str], session: Session | None = None) -> dict[str, Recipient]:
        found = self._recipients.find({"_id": {"$in": list(member_ids)}}, session=session)
        return {row["_id"]: recipient_of(row) async for row in found}

    async def save_recipients(self, recipients: Sequence[Recipient], session: Session) -> None:
        writes = [ReplaceOne({"_id": r.member_id}, row_of_recipient(r), upsert=True) for r in recipients]
        await self._recipients.bulk_write(writes, ordered=False, session=session)

    # -- invites -------------------------------------------------------------------------------------------

    async def invited(
        self, group_ids: Many[str], hinted: Many[str], session: Session
    ) -> tuple[set[str], set[str]]:
        """Those of the groups that have an invite link, and those of them that got it from the hint just now.

        `hinted` groups had a link when somebody was assigned to them; what the group itself said weighs more.

        The rows of groups without a link are written as well: whoever makes one of them ready at this moment runs
        into our write, and one of the two transactions starts again. Otherwise neither would see the other under
        snapshot isolation, and a welcome would be held for a link that is there.
        """
        if not group_ids:
            return set(), set()
        rows = await self._invites.find({"_id": {"$in": list(group_ids)}}, session=session).to_list(None)
        ready = {row["_id"] for row in rows if row["ready"]}
        heard = {row["_id"] for row in rows if row["sequence"] > 0}
        fresh = set(hinted) - ready - heard
        writes = [UpdateOne({"_id": id_}, _READY_BY_HINT, upsert=True) for id_ in sorted(fresh)]
        missing = set(group_ids) - ready - fresh
        writes += [UpdateOne({"_id": id_}, _AWAITED, upsert=True) for id_ in sorted(missing)]
        if writes:
            await self._invites.bulk_write(writes, ordered=False, session=session)
        return ready | fresh, fresh

    async def invite_sequences(self, group_ids: Many[str], session: Session) -> dict[str, int]:
        """The sequence of the last `group.invite_changed` of each group that had one."""
        found = self._invites.find({"_id": {"$in": list(group_ids)}}, {"sequence": 1}, session=session)
        return {row["_id"]: row["sequence"] async for row in found}

    async def save_invites(self, changes: Mapping[str, tuple[bool, int]], session: Session) -> None:
        """`{group id: (ready, sequence)}`"""
        writes = [
            UpdateOne({"_id": id_}, {"$set": {"ready": ready, "sequence": sequence}}, upsert=True)
            for id_, (ready, sequence) in changes.items()
        ]
        await self._invites.bulk_write(writes, ordered=False, session=session)

    async def release(self, group_ids: Many[str], now: datetime, session: Session) -> int:
        """Let go what these groups' missing links held; how many that is."""
        held = {"open": True, "group_id": {"$in": list(group_ids)}, "held_for": "no_invite"}
        due = _when_queued(now)
        update: list[Document] = [{"$set": {"due_at": due, "updated_at": now}}, {"$unset": "held_for"}]
        result = await self._notifications.update_many(held, update, session=session)
        return int(result.modified_count)

    async def hold(self, group_ids: Many[str], now: datetime, session: Session) -> None:
        """Hold what waits to be sent with a link that has been withdrawn."""
        free = {"open": True, "group_id": {"$in": list(group_ids)}, "held_for": None}
        due = _when_queued("$$REMOVE")
        update = [{"$set": {"held_for": "no_invite", "due_at": due, "updated_at": now}}]
        await self._notifications.update_many(free, update, session=session)

    # -- notifications -------------------------------------------------------------------------------------

    async def welcomes(self, member_ids: Many[str], session: Session) -> dict[str, Notification]:
        """By member id."""
        query = {"member_id": {"$in": list(member_ids)}, "purpose": WELCOME}
        found = self._notifications.find(query, session=session)
        return {row["member_id"]: notification_of(row) async for row in found}

    async def add(self, notifications: Sequence[Notification], session: Session) -> None:
        """Raises: `pymongo.errors.BulkWriteError` (duplicate key) when a member has a welcome already."""
        if notifications:
            await self._notifications.insert_many(map(row_of_notification, notifications), session=session)

    async def save(self, notifications: Sequence[Notification], session: Session) -> None:
        if notifications:
            writes = [ReplaceOne({"_id": n.id}, row_of_notification(n)) for n in notifications]
            await self._notifications.bulk_write(writes, ordered=False, session=session)

    async def by_id(self, ids: Many[str], session: Session) -> dict[str, Notification]:
        found = self._notifications.find({"_id": {"$in": list(ids)}}, session=session)
        return {row["_id"]: notification_of(row) async for row in found}

    async def count(self) -> tuple[int, dict[str, int]]:
        """Recipients, and notifications by state."""
        pipeline: list[Document] = [{"$group": {"_id": "$state", "count": {"$sum": 1}}}]
        states = {row["_id"]: row["count"] async for row in self._notifications.aggregate(pipeline)}
        return await self._recipients.count_documents({}), states

    async def find(self, id_: str) -> Notification | None:
        row = await self._notifications.find_one({"_id": id_})
        return notification_of(row) if row else None

    async def page(self, search: Search, after: tuple[str, str] | None, limit: int) -> list[Notification]:
        """In the order of (unit, id): one index serves the subtree, the state and the cursor."""
        wanted = {"member_id": search.member_id, "state": search.state}
        query: Document = {field: value for field, value in wanted.items() if value is not None}
        if search.root is not None:
            query["unit"] = subtree(search.root)
        if after is not None:
            query["$or"] = [{"unit": {"$gt": after[0]}}, {"unit": after[0], "_id": {"$gt": after[1]}}]
        order = [("unit", ASCENDING), ("_id", ASCENDING)]
        rows = await self._notifications.find(query).sort(order).limit(limit).to_list(limit)
        return [notification_of(row) for row in rows]

    async def held(self) -> dict[str, tuple[int, datetime]]:
        """Open notifications by what holds them: how many, and when the oldest was queued."""
        pipeline: list[Document] = [
            {"$match": {"open": True, "held_for": {"$gt": ""}}},
            {"$group": {"_id": "$held_for", "count": {"$sum": 1}, "oldest": {"$min": "$created_at"}}},
        ]
        return {
            row["_id"]: (row["count"], row["oldest"]) async for row in self._notifications.aggregate(pipeline)
        }

    # -- claims --------------------------------------------------------------------------------------------

    async def claim(self, now: datetime, until: datetime, limit: int) -> tuple[str, list[Notification], int]:
        """Take up to `limit` due notifications: the claim's id, what was got, and how many were due.

        Each document's own update is atomic and asks again whether it is due, so two replicas never get the same
        one. A claim that was not concluded by `until` makes its notifications due again.
        """
        due: Document = {"due_at": {"$lte": now}}
        rows = await self._notifications.find(due, {"_id": 1}).sort("due_at", 1).limit(limit).to_list(limit)
        claim, ids = new_id(), [row["_id"] for row in rows]
        if not ids:
            return claim, [], 0
        taken = {"state": State.SENDING.value, "claim": claim, "due_at": until, "updated_at": now}
        await self._notifications.update_many({"_id": {"$in": ids}, **due}, {"$set": taken})
        mine = self._notifications.find({"_id": {"$in": ids}, "claim": claim})
        return claim, [notification_of(row) async for row in mine], len(ids)

    async def claimed(self, ids: Many[str], claim: str, session: Session) -> list[Notification]:
        """Those that are still ours: a claim that ran out may be another's by now."""
        found = self._notifications.find({"_id": {"$in": list(ids)}, "claim": claim}, session=session)
        return [notification_of(row) async for row in found]

    # -- cached contacts -----------------------------------------------------------------------------------

    async def cached_contacts(self, versions: Mapping[str, int], since: datetime) -> dict[str, Binary]:
        """Sealed contacts of the members (`{member id: contact version}`) that are of that version and not older."""
        query = {"_id": {"$in": list(versions)}, "at": {"$gt": since}}
        found = self._contacts.find(query)
        return {row["_id"]: row["sealed"] async for row in found if row["version"] == versions[row["_id"]]}

    async def cache_contacts(
        self, sealed: Mapping[str, Binary], versions: Mapping[str, int], now: datetime
    ) -> None:
        writes = [
            ReplaceOne({"_id": id_}, {"version": versions[id_], "sealed": secret, "at": now}, upsert=True)
            for id_, secret in sealed.items()
        ]
        await self._contacts.bulk_write(writes, ordered=False)

    async def forget_contacts(self, member_ids: Many[str], session: Session) -> None:
        await self._contacts.delete_many({"_id": {"$in": list(member_ids)}}, session=session)


_READY_BY_HINT: Final = {"$set": {"ready": True, "sequence": 0}}
_AWAITED: Final = {"$inc": {"awaited": 1}, "$setOnInsert": {"ready": False, "sequence": 0}}


def _when_queued(value: Any) -> Document:
    """`due_at` of what waits becomes `value`; of what is being sent, it stays the end of the claim."""
    return {"$cond": [{"$eq": ["$state", State.QUEUED.value]}, value, "$due_at"]}
