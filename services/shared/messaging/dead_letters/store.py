"""Dead letters: records that no retry can apply, stored so that operators can list, inspect, replay and
discard them.

A letter is written in the transaction that marks its record as done, and reaches the topic `<group>.dlq`
through the outbox. So it exists exactly once, and before its offset is committed. A value that does not match
its contract may hold anything, even personal data, so it is not copied: the letter holds the record's place,
size and SHA-256. A letter that exists is never written again, so a settled one stays settled when the log is
read again.

A record is *set aside* when only a later release knows its type: kept here in that state, and not dead.
`set_aside` replays it.

Letters are in the order of the log: topic, partition, offset.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, TypeAlias

from bson.binary import Binary

from services.shared.clock import Clock
from services.shared.database import Collection, Database, Document, Session
from services.shared.ids import new_id
from services.shared.loops import Pace, Turn, poll_loop
from services.shared.messaging.broker import Message, Partition, Record
from services.shared.messaging.codec import kept_headers
from services.shared.messaging.metrics import MessagingMetrics
from services.shared.messaging.publishing.outbox import UnitOfWork

COUNT_SECONDS = 10.0
DISCARDED_SECONDS: Final = 60.0
LISTED: Final = ("dead", "replayed", "discarded")
"""The states of dead letters, which a listing without a state shows."""
OPEN: Final = ("dead", "set_aside")
"""The states that end by a replay or a discard."""
STATES: Final = (*LISTED, "set_aside")
UPGRADE: Final = "upgrade"
"""Named as the operator that settled a record which was set aside for a later release."""
ERASURE: Final = "erasure"
"""Named as the operator that discarded the letters about an erased member."""
MAX_KINDS: Final = 500
"""Most pairs of type and reason in a summary. A type comes from a header, so the number of types has no
bound."""

Place: TypeAlias = tuple[str, int, int]
"""`(topic, partition, offset)`: the order of letters."""
IN_ORDER: Final = [("topic", 1), ("partition", 1), ("offset", 1)]


_DISCARDED: Final = {"state": "discarded", "settled_by": {"$ne": UPGRADE}}


@dataclass(frozen=True, slots=True)
class FailedRecord:
    """A record that could not be applied, with the reason. `decodable`: its value matches its contract, so it
    may be stored. `ours`: our own code failed on it. `set_aside`: a later release may apply it."""

    record: Record
    reason: str
    detail: str
    attempts: int = 1
    decodable: bool = False
    ours: bool = False
    set_aside: bool = False


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects letters that match all given fields. `since` is inclusive, `until` exclusive."""

    type: str | None = None
    reason: str | None = None
    state: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def query(self, after: Place | None = None) -> Document:
        # Without a state, name all states of dead letters, so that one index serves every listing.
        query: Document = {"state": self.state or {"$in": list(LISTED)}}
        query |= {k: v for k, v in (("type", self.type), ("reason", self.reason)) if v is not None}
        age = {k: v for k, v in (("$gte", self.since), ("$lt", self.until)) if v is not None}
        if age:
            query["at"] = age
        if after is not None:
            topic, partition, offset = after
            query["$or"] = [
                {"topic": {"$gt": topic}},
                {"topic": topic, "partition": {"$gt": partition}},
                {"topic": topic, "partition": partition, "offset": {"$gt": offset}},
            ]
        return query


def letter_id(record: Record) -> str:
    """`topic:partition:offset`, the only name that every record has."""
    return place_id(record.partition, record.offset)


def place_id(partition: Partition, offset: int) -> str:
    return f"{partition.topic}:{partition.number}:{offset}"


def place_of(letter: Document) -> Place:
    return letter["topic"], letter["partition"], letter["offset"]


def partition_of(letter: Document) -> Partition:
    return Partition(letter["topic"], letter["partition"])


def subject_of(letter: Document) -> tuple[str, str] | None:
    """Topic and subject of the event; None when the headers have no subject."""
    subject = letter["headers"].get("ce_subject")
    return (letter["topic"], subject) if subject else None


class DeadLetters:
    def __init__(self, database: Database, clock: Clock, group: str, metrics: MessagingMetrics) -> None:
        self.letters: Collection = database["dead_letters"]
        self.topic = f"{group}.dlq"
        self._clock = clock
        self._metrics = metrics.dead_letters
        self._any_discarded = False
        self._look_again_at = 0.0

    async def watch(self, stop: asyncio.Event) -> None:
        """Update the gauge of open letters. Counted in every process, because operators settle letters in any
        of them."""
        await poll_loop("dead_letters", self._gauge, stop, Pace.every(COUNT_SECONDS))

    async def _gauge(self) -> Turn:
        self._metrics.open.set(await self.count(Filter(state="dead")))
        self._metrics.set_aside.set(await self.count(Filter(state="set_aside")))
        return Turn.NOTHING

    async def discarded(self, records: Sequence[Record], session: Session) -> set[str]:
        """The ids of those letters of these records that an operator discarded.

        Such a record comes again when offsets are set back, perhaps to a release that could apply it. Asks
        only while there is any discarded letter, as was found at most `DISCARDED_SECONDS` ago.
        """
        if time.monotonic() >= self._look_again_at:
            self._any_discarded = await self.letters.find_one(_DISCARDED) is not None
            self._look_again_at = time.monotonic() + DISCARDED_SECONDS
        if not self._any_discarded:
            return set()
        ids = {"_id": {"$in": [letter_id(record) for record in records]}}
        found = self.letters.find({**ids, **_DISCARDED}, {"_id": 1}, session=session)
        return {row["_id"] async for row in found}

    async def bury(self, work: UnitOfWork, failures: Sequence[FailedRecord]) -> Sequence[FailedRecord]:
        """Store the records with their reasons, and stage copies of dead ones for the dead-letter topic.
        Returns those that had no letter yet; the others keep theirs.

        Raises: `BulkWriteError` (duplicate key) when another process has stored one of them.
        """
        if not failures:
            return ()
        by_id = {letter_id(failure.record): failure for failure in failures}
        found = self.letters.find({"_id": {"$in": list(by_id)}}, {"_id": 1}, session=work.session)
        for id_ in {row["_id"] async for row in found}:
            del by_id[id_]
        if by_id:
            letters = [self._letter(failure) for failure in by_id.values()]
            await self.letters.insert_many(letters, session=work.session)
            self._stage(work, letters)
        return tuple(by_id.values())

    async def known_set_aside(
        self, types: Sequence[str], *, after: Place | None, limit: int
    ) -> Sequence[Document]:
        """Records of these types that were set aside, in order."""
        found = self.letters.find({**Filter(state="set_aside").query(after), "type": {"$in": list(types)}})
        return await found.sort(IN_ORDER).limit(limit).to_list(None)

    async def declare_dead(self, id_: str, reason: str, detail: str, work: UnitOfWork) -> bool:
        """Make a dead letter of a record that was set aside; False when it is not (any more)."""
        change = {"state": "dead", "reason": reason, "detail": detail}
        result = await self.letters.update_many(
            {"_id": id_, "state": "set_aside"}, {"$set": change}, session=work.session
        )
        if not result.modified_count:
            return False
        letter = await self.letters.find_one({"_id": id_}, session=work.session)
        assert letter is not None
        self._stage(work, [letter])
        return True

    def _stage(self, work: UnitOfWork, letters: Sequence[Document]) -> None:
        for letter in letters:
            if letter["state"] == "dead":
                work.stage_message(self._message(letter), new_id(), 0, letter["at"])

    async def find(self, wanted: Filter, *, after: Place | None, limit: int) -> Sequence[Document]:
        """Letters in order, without their values."""
        found = self.letters.find(wanted.query(after), {"value": 0})
        return await found.sort(IN_ORDER).limit(limit).to_list(None)

    async def count(self, wanted: Filter, *, after: Place | None = None) -> int:
        return await self.letters.count_documents(wanted.query(after))

    async def summary(self, wanted: Filter) -> Sequence[Document]:
        """`{type, reason, count, oldest, newest}` for each pair of type and reason, the most frequent
        first."""
        kind: Document = {"type": "$type", "reason": "$reason"}
        figures: Document = {"count": {"$sum": 1}, "oldest": {"$min": "$at"}, "newest": {"$max": "$at"}}
        pipeline: Sequence[Document] = [
            {"$match": wanted.query()},
            {"$group": {"_id": kind, **figures}},
            {"$sort": {"count": -1, "_id": 1}},
            {"$limit": MAX_KINDS},
        ]
        rows = await self.letters.aggregate(pipeline).to_list(None)
        return [{**row.pop("_id"), **row} for row in rows]

    async def get(self, id_: str) -> Document | None:
        """The letter with its value."""
        return await self.letters.find_one({"_id": id_})

    async def values(self, ids: Sequence[str]) -> dict[str, bytes]:
        """The stored values, by the ids of their letters."""
        found = self.letters.find({"_id": {"$in": list(ids)}, "value": {"$ne": None}}, {"value": 1})
        return {row["_id"]: bytes(row["value"]) async for row in found}

    async def still_open(self, ids: Sequence[str], session: Session) -> set[str]:
        """The letters among `ids` that nobody has replayed or discarded."""
        query = {"_id": {"$in": list(ids)}, "state": {"$in": list(OPEN)}}
        found = self.letters.find(query, {"_id": 1}, session=session)
        return {row["_id"] async for row in found}

    async def stuck(self, wanted: Filter, before: Place, subjects: Sequence[str]) -> set[tuple[str, str]]:
        """Subjects, by topic, that have a letter before the place `before` whose replay has failed."""
        topic, partition, offset = before
        earlier: Document = {
            "headers.ce_subject": {"$in": list(subjects)},
            "retried_at": {"$exists": True},
            "$or": [
                {"topic": {"$lt": topic}},
                {"topic": topic, "partition": {"$lt": partition}},
                {"topic": topic, "partition": partition, "offset": {"$lt": offset}},
            ],
        }
        found = self.letters.find({**wanted.query(), **earlier}, {"topic": 1, "headers.ce_subject": 1})
        return {(row["topic"], row["headers"]["ce_subject"]) async for row in found}

    async def settle(
        self,
        ids: Sequence[str],
        state: str,
        *,
        by: str,
        note: str | None = None,
        work: UnitOfWork | None = None,
    ) -> int:
        """Mark letters that are still open as `replayed` or `discarded` by `by`, inside `work` if given.
        Returns how many."""
        fields = {"state": state, "settled_at": self._clock.now(), "settled_by": by, "note": note}
        result = await self.letters.update_many(
            {"_id": {"$in": list(ids)}, "state": {"$in": list(OPEN)}},
            {"$set": fields},
            session=work.session if work else None,
        )
        count = partial(self._metrics.settled.labels(state).inc, result.modified_count)
        work.after_commit(count) if work else count()
        return int(result.modified_count)

    async def forget_subjects(self, subjects: Sequence[str], work: UnitOfWork, *, but: str) -> dict[str, int]:
        """Discard the letters of events about these subjects, with their values, except those of the type
        `but`; how many of each subject."""
        query = {"headers.ce_subject": {"$in": list(subjects)}, "type": {"$ne": but}}
        rows = self.letters.find(query, {"headers.ce_subject": 1, "state": 1}, session=work.session)
        found = [(row["_id"], row["headers"]["ce_subject"]) async for row in rows]
        if found:
            ids = [id_ for id_, _ in found]
            await self.settle(ids, "discarded", by=ERASURE, work=work)
            empty = {"$set": {"value": None, "key": None}}
            await self.letters.update_many({"_id": {"$in": ids}}, empty, session=work.session)
        return Counter(subject for _, subject in found)

    async def failed_again(self, id_: str) -> None:
        """Record a failed replay."""
        await self.letters.update_one(
            {"_id": id_}, {"$inc": {"attempts": 1}, "$set": {"retried_at": self._clock.now()}}
        )

    def _letter(self, failure: FailedRecord) -> Document:
        record, value = failure.record, failure.record.value or b""
        headers = kept_headers(record)
        return {
            "_id": letter_id(record),
            "event_id": headers.get("ce_id"),
            "type": headers.get("ce_type"),
            "reason": failure.reason,
            "detail": failure.detail,
            "attempts": failure.attempts,
            "topic": record.partition.topic,
            "partition": record.partition.number,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "key": Binary(record.key) if failure.decodable and record.key else None,
            "headers": headers,
            "value": Binary(value) if failure.decodable else None,
            "bytes": len(value),
            "sha256": hashlib.sha256(value).hexdigest(),
            "state": "set_aside" if failure.set_aside else "dead",
            "at": self._clock.now(),
        }

    def _message(self, letter: Document) -> Message:
        extra = ("reason", "detail", "attempts", "topic", "partition", "offset", "sha256", "bytes")
        headers = [(name, value.encode()) for name, value in letter["headers"].items()]
        headers += [(f"dlq_{name}", str(letter[name]).encode()) for name in extra]
        return Message(
            self.topic,
            bytes(letter["key"] or letter["_id"].encode()),
            bytes(letter["value"] or b""),
            tuple(headers),
        )


def record_of(letter: Document, value: bytes) -> Record:
    """The original record. Only for a letter whose value was kept."""
    return Record(
        partition_of(letter),
        letter["offset"],
        bytes(letter["key"]),
        value,
        tuple((name, value.encode()) for name, value in letter["headers"].items()),
        letter["timestamp"],
    )
