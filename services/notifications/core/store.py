"""Recipients, groups' invite links and notifications: the collections that every feature builds on.

    recipients      {_id: member id, ...Recipient}
    group_invites   {_id: group id, ready, sequence, awaited?}
    notifications   {_id, ...Notification, open?}
    member_sequences    {_id: member id, sequence}, the last of this service's events about each member

A field of a notification that has no value is absent, which keeps finished notifications out of the
dispatcher's indexes; `open` is true until one is finished.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection as Many
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, Final

from pymongo import ASCENDING, IndexModel, ReplaceOne, UpdateOne
from pymongo.errors import OperationFailure

from services.notifications.core.domain import LOOKED_AT_AGAIN, WELCOME, Notification, State
from services.notifications.core.recipients import Recipient
from services.notifications.core.send_policy import NO_GROUP, NO_INVITE
from services.shared.contracts.groups import TOPIC as GROUPS
from services.shared.contracts.members import TOPIC as MEMBERS
from services.shared.database import Codec, Collection, Database, Document, Migration, Session, create
from services.shared.encryption import create_key_collection

NOTIFICATIONS: Final = "notifications"

_RECIPIENT: Final = Codec(Recipient, id_field="member_id")
_NOTIFICATION: Final = Codec(
    Notification, id_field="id", omit_none=[f.name for f in fields(Notification) if f.default is None]
)


def notification_document(notification: Notification) -> Document:
    document = _NOTIFICATION.encode(notification)
    if notification.state.is_open:
        document["open"] = True
    return document


notification_of: Final = _NOTIFICATION.decode


class RecipientStore:
    def __init__(self, database: Database) -> None:
        self._recipients = database["recipients"]

    async def by_id(self, member_ids: Many[str], session: Session | None = None) -> dict[str, Recipient]:
        found = self._recipients.find({"_id": {"$in": list(member_ids)}}, session=session)
        return {row["_id"]: _RECIPIENT.decode(row) async for row in found}

    async def save(self, recipients: Sequence[Recipient], session: Session) -> None:
        writes = [ReplaceOne({"_id": r.member_id}, _RECIPIENT.encode(r), upsert=True) for r in recipients]
        await self._recipients.bulk_write(writes, ordered=False, session=session)

    async def heard(self, member_ids: Many[str], session: Session) -> dict[str, int]:
        """The highest sequence known of each member, of either topic."""
        known = await self.by_id(member_ids, session)
        return {
            id_: max(recipient.heard(topic) for topic in (MEMBERS, GROUPS))
            for id_, recipient in known.items()
        }

    async def forget_heard(self, member_ids: Many[str], session: Session) -> None:
        """Make the next snapshots of these members news; these also tell whether they are still members."""
        await self._recipients.update_many(
            {"_id": {"$in": list(member_ids)}}, {"$set": _UNHEARD}, session=session
        )

    async def count(self) -> int:
        return await self._recipients.count_documents({})


class InviteStore:
    """Which groups have an invite link."""

    def __init__(self, database: Database) -> None:
        self._invites = database["group_invites"]

    async def invited(
        self, group_ids: Many[str], hinted: Many[str], session: Session
    ) -> tuple[set[str], set[str]]:
        """Find the groups that have an invite link, and those among them that got it from the hint just now.

        `hinted` groups had a link when a member was assigned to them; an event of the group itself outweighs
        that.

        The rows of groups without a link are written as well. So a transaction that makes one of them ready
        at this moment conflicts with ours, and one of the two starts again. Otherwise neither would see the
        other under snapshot isolation, and a welcome would be held for a link that is there.
        """
        if not group_ids:
            return set(), set()
        rows = await self._invites.find({"_id": {"$in": list(group_ids)}}, session=session).to_list(None)
        ready = {row["_id"] for row in rows if row["ready"]}
        heard = {row["_id"] for row in rows if row["sequence"] > 0}
        fresh = set(hinted) - ready - heard
        missing = set(group_ids) - ready - fresh
        writes = [UpdateOne({"_id": id_}, _READY_BY_HINT, upsert=True) for id_ in sorted(fresh)]
        writes += [UpdateOne({"_id": id_}, _AWAITED, upsert=True) for id_ in sorted(missing)]
        if writes:
            await self._invites.bulk_write(writes, ordered=False, session=session)
        return ready | fresh, fresh

    async def sequences(self, group_ids: Many[str], session: Session) -> dict[str, int]:
        """The sequence of the last event about each group's link, for groups that had one."""
        found = self._invites.find({"_id": {"$in": list(group_ids)}}, {"sequence": 1}, session=session)
        return {row["_id"]: row["sequence"] async for row in found}

    async def forget_heard(self, group_ids: Many[str], session: Session) -> None:
        """Make the next events of these groups news; whether they have a link stays."""
        await self._invites.update_many(
            {"_id": {"$in": list(group_ids)}}, {"$set": {"sequence": 0}}, session=session
        )

    async def save(self, changes: Mapping[str, tuple[bool, int]], session: Session) -> None:
        """`{group id: (ready, sequence)}`"""
        writes = [
            UpdateOne({"_id": id_}, {"$set": {"ready": ready, "sequence": sequence}}, upsert=True)
            for id_, (ready, sequence) in changes.items()
        ]
        await self._invites.bulk_write(writes, ordered=False, session=session)


class NotificationStore:
    def __init__(self, database: Database) -> None:
        self._notifications: Collection = database[NOTIFICATIONS]

    async def by_id(self, ids: Many[str], session: Session) -> dict[str, Notification]:
        found = self._notifications.find({"_id": {"$in": list(ids)}}, session=session)
        return {row["_id"]: notification_of(row) async for row in found}

    async def welcomes(self, member_ids: Many[str], session: Session) -> dict[str, Notification]:
        """By member id."""
        query = {"member_id": {"$in": list(member_ids)}, "template": WELCOME}
        found = self._notifications.find(query, session=session)
        return {row["member_id"]: notification_of(row) async for row in found}

    async def open_to(self, member_ids: Many[str], session: Session) -> list[Notification]:
        """Unfinished notifications to these members, of any purpose."""
        query = {"member_id": {"$in": list(member_ids)}, "open": True}
        return [notification_of(row) async for row in self._notifications.find(query, session=session)]

    async def add(self, notifications: Sequence[Notification], session: Session) -> None:
        """Raises: `BulkWriteError` (duplicate key, a race) when a member has a welcome already."""
        if notifications:
            await self._notifications.insert_many(map(notification_document, notifications), session=session)

    async def save(self, notifications: Sequence[Notification], session: Session) -> None:
        if notifications:
            writes = [ReplaceOne({"_id": n.id}, notification_document(n)) for n in notifications]
            await self._notifications.bulk_write(writes, ordered=False, session=session)

    async def release(self, group_ids: Many[str], now: datetime, session: Session) -> int:
        """Release what was held for these groups' missing links; returns how many notifications that is."""
        held = {"open": True, "group_id": {"$in": list(group_ids)}, "held_for": "no_invite"}
        due = _when_queued(now)
        update: list[Document] = [{"$set": {"due_at": due, "updated_at": now}}, {"$unset": "held_for"}]
        result = await self._notifications.update_many(held, update, session=session)
        return int(result.modified_count)

    async def hold(self, group_ids: Many[str], now: datetime, session: Session) -> None:
        """Hold what waits to be sent with these groups' links, which have been withdrawn."""
        free = {
            "open": True,
            "group_id": {"$in": list(group_ids)},
            "held_for": {"$in": [None, *LOOKED_AT_AGAIN]},
        }
        due = _when_queued({"$ifNull": [_WAITS_END, "$$REMOVE"]})
        update = [{"$set": {"held_for": "no_invite", "due_at": due, "updated_at": now}}]
        await self._notifications.update_many(free, update, session=session)

    async def sent_to(
        self, member_ids: Many[str], purposes: Many[str], since: datetime
    ) -> dict[str, list[tuple[str, datetime]]]:
        """Purposes and times of what was sent to these members since then, or may have been, by member id."""
        went = {"state": State.SENT.value, "attempts.at": {"$gte": since}}
        may_have = {"state": State.SENDING.value, "handed.at": {"$gte": since}}
        query = {
            "member_id": {"$in": list(member_ids)},
            "purpose": {"$in": list(purposes)},
            "$or": [went, may_have],
        }
        sent: dict[str, list[tuple[str, datetime]]] = {}
        fields_read = {"member_id": 1, "purpose": 1, "attempts": {"$slice": -1}, "handed": 1}
        async for row in self._notifications.find(query, fields_read):
            last = row.get("handed") or row["attempts"][-1]
            sent.setdefault(row["member_id"], []).append((row["purpose"], last["at"]))
        return sent

    async def judge_again(self, now: datetime) -> int:
        """Make due what the send policy has deferred; returns how many notifications that is."""
        deferred = {"open": True, "state": State.QUEUED.value, "deferred_for": {"$exists": True}}
        changed = {"$set": {"due_at": now, "updated_at": now}}
        return int((await self._notifications.update_many(deferred, changed)).modified_count)

    async def look_again(self, reasons: Many[str], now: datetime, session: Session) -> None:
        """Let the dispatcher look at once at what is held for one of these reasons, of `LOOKED_AT_AGAIN`."""
        held = {"open": True, "held_for": {"$in": list(reasons)}}
        await self._notifications.update_many(
            held, [{"$set": {"due_at": _when_queued(now)}}], session=session
        )

    async def count_by_state(self) -> dict[str, int]:
        pipeline: list[Document] = [{"$group": {"_id": "$state", "count": {"$sum": 1}}}]
        return {row["_id"]: row["count"] async for row in self._notifications.aggregate(pipeline)}


class MemberSequences:
    """Numbers the events about members. The numbers outlive an erasure, so that a later event is not taken
    for a repeated one."""

    def __init__(self, database: Database) -> None:
        self._sequences: Collection = database["member_sequences"]

    async def take(self, counts: Mapping[str, int], session: Session) -> dict[str, int]:
        """Take the next `counts` numbers of each member; answers the first of each."""
        if not counts:
            return {}
        writes = [
            UpdateOne({"_id": id_}, {"$inc": {"sequence": n}}, upsert=True) for id_, n in counts.items()
        ]
        await self._sequences.bulk_write(writes, ordered=False, session=session)
        rows = self._sequences.find({"_id": {"$in": list(counts)}}, session=session)
        return {row["_id"]: row["sequence"] - counts[row["_id"]] + 1 async for row in rows}

    async def restore(self, reached: Mapping[str, int], session: Session) -> None:
        """The numbers that the log shows to have been used."""
        writes = [
            UpdateOne({"_id": id_}, {"$max": {"sequence": n}}, upsert=True) for id_, n in reached.items()
        ]
        await self._sequences.bulk_write(writes, ordered=False, session=session)


_UNHEARD: Final = {
    "unit_sequence": 0,
    "language_sequence": 0,
    "adult_sequence": 0,
    "placement_sequence": 0,
    "consent_sequence": 0,
    "merged_sequence": 0,
    "active": True,
    "merged": False,
}
_READY_BY_HINT: Final = {"$set": {"ready": True, "sequence": 0}}
_WAITS_END: Final = {"$min": ["$waits_until", "$expires_at"]}
"""`Notification.waits_end`; null if there is none."""
_AWAITED: Final = {"$inc": {"awaited": 1}, "$setOnInsert": {"ready": False, "sequence": 0}}


def _when_queued(value: Any) -> Document:
    """`due_at` of a queued notification becomes `value`; while it is sent, it stays the end of the claim."""
    return {"$cond": [{"$eq": ["$state", State.QUEUED.value]}, value, "$due_at"]}


_TEXT: Final[Document] = {"bsonType": "string"}
_DATE: Final[Document] = {"bsonType": "date"}
_WHOLE: Final[Document] = {"bsonType": ["int", "long"], "minimum": 0}
_FLAG: Final[Document] = {"bsonType": "bool"}


_OF_A_RECIPIENT: Final[Document] = {
    "joined": _FLAG,
    "active": _FLAG,
    "unit_sequence": _WHOLE,
    "language_sequence": _WHOLE,
    "placement_sequence": _WHOLE,
    "channels": {"bsonType": "array"},
}


async def _collections(database: Database) -> None:
    await create(database, "recipients", required={**_OF_A_RECIPIENT, "contact_sequence": _WHOLE})
    await create(database, "group_invites", required={"ready": _FLAG, "sequence": _WHOLE})
    await create(
        database,
        NOTIFICATIONS,
        required={
            "member_id": _TEXT,
            "unit": _TEXT,
            "purpose": _TEXT,
            "template": _TEXT,
            "language": _TEXT,
            "state": {"enum": [state.value for state in State]},
            "attempts": {"bsonType": "array"},
            "sequence": _WHOLE,
            "created_at": _DATE,
            "updated_at": _DATE,
        },
        indexes=_notification_indexes(),
    )
    await create_key_collection(database)


_ONE_WELCOME: Final = IndexModel(
    [("member_id", ASCENDING), ("template", ASCENDING)],
    unique=True,
    partialFilterExpression={"template": WELCOME},
)
_ONE_BY_PURPOSE: Final = "member_id_1_purpose_1"
"""The index of earlier releases: it does not allow the invite that follows a welcome."""


def _notification_indexes() -> list[IndexModel]:
    """Every index is there for a query, named beside it."""
    return [
        # NotificationStore.welcomes; being unique, it also prevents a second welcome.
        _ONE_WELCOME,
        # QueueStore.claim: only notifications that will be due have the field.
        IndexModel("due_at", sparse=True),
        # NotificationStore.release and .hold, QueueStore.held: only unfinished ones.
        IndexModel(
            [("open", ASCENDING), ("group_id", ASCENDING), ("held_for", ASCENDING)],
            partialFilterExpression={"open": True},
        ),
        # TrackingStore.page, by unit and by member.
        IndexModel([("unit", ASCENDING), ("_id", ASCENDING), ("state", ASCENDING)]),
        IndexModel([("member_id", ASCENDING), ("unit", ASCENDING), ("_id", ASCENDING)]),
    ]


async def _recipients_without_contact(database: Database) -> None:
    """`contact_sequence` was the version of a cached contact."""
    await create(database, "recipients", required=_OF_A_RECIPIENT)


async def _welcomes_wait_a_day(database: Database) -> None:
    """A second message may have the purpose of the welcome: the invite that follows it. Welcomes that are
    held by now wait for a day more."""
    notifications = database[NOTIFICATIONS]
    await notifications.create_indexes([_ONE_WELCOME])
    with contextlib.suppress(OperationFailure):  # only databases of earlier releases have it
        await notifications.drop_index(_ONE_BY_PURPOSE)
    ends: Document = {
        "waits_until": {"$add": ["$$NOW", 86_400_000]},
        "expires_at": {"$ifNull": ["$expires_at", {"$add": ["$$NOW", 30 * 86_400_000]}]},
    }
    held = {"$in": ["$held_for", [NO_GROUP, NO_INVITE]]}
    due = _when_queued({"$cond": [held, _WAITS_END, {"$ifNull": ["$due_at", "$$REMOVE"]}]})
    await notifications.update_many(
        {"open": True, "template": WELCOME, "waits_until": {"$exists": False}},
        [{"$set": ends}, {"$set": {"due_at": due}}],
    )


async def _operators_look(database: Database) -> None:
    """For TrackingStore.summary and .page, and FailedStore.page: only what waits, failed or was
    suppressed."""
    await database[NOTIFICATIONS].create_indexes(
        [
            IndexModel(
                [("reason", ASCENDING), ("unit", ASCENDING), ("_id", ASCENDING), ("state", ASCENDING)],
                partialFilterExpression={"reason": {"$exists": True}},
            ),
            IndexModel(
                [("unit", ASCENDING), ("held_for", ASCENDING), ("deferred_for", ASCENDING)],
                partialFilterExpression={"open": True},
            ),
        ]
    )


async def _members_sequences(database: Database) -> None:
    await create(database, "member_sequences", required={"sequence": _WHOLE})
    await create(database, "fingerprint_keys", required={"sealed": {"bsonType": "binData"}})


MIGRATIONS: Final = (
    Migration("core-0001", "recipients, invites, notifications, keys", _collections),
    Migration("core-0002", "recipients without contact_sequence", _recipients_without_contact),
    Migration("core-0003", "welcomes wait for a day", _welcomes_wait_a_day),
    Migration("core-0004", "sequences of members, the key of fingerprints", _members_sequences),
    Migration("core-0010", "indexes for operators: what waits, failed or was suppressed", _operators_look),
)
