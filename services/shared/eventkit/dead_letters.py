"""Dead letters: records that no retry can help, kept where operators can list, inspect, replay and discard them.

One is written in the transaction that marks its record as done, and reaches the topic `<group>.dlq` through the
outbox: so it exists once, and before its offset is committed. A value that does not fit a contract may hold
anything, personal data too, so it is not copied: the letter says where the record lies, its size and its SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from bson.binary import Binary

from services.shared.clock import Clock
from services.shared.eventkit.broker import Message, Partition, Record
from services.shared.eventkit.codec import peek
from services.shared.eventkit.outbox import UnitOfWork
from services.shared.ids import new_id
from services.shared.mongo import Collection, Database, Document, Session

KEPT_HEADERS = (
    "ce_specversion",
    "ce_id",
    "ce_source",
    "ce_type",
    "ce_subject",
    "ce_time",
    "ce_sequence",
    "ce_correlationid",
    "ce_causationid",
    "ce_traceparent",
    "content-type",
)
HEADER_CHARACTERS = 128


def letter_id(record: Record) -> str:
    """`topic:partition:offset`, the one name that every record has."""
    return f"{record.partition.topic}:{record.partition.number}:{record.offset}"


class DeadLetters:
    def __init__(self, database: Database, clock: Clock, group: str) -> None:
        self.letters: Collection = database["dead_letters"]
        self.topic = f"{group}.dlq"
        self._clock = clock

    async def bury(
        self, work: UnitOfWork, record: Record, *, reason: str, detail: str, attempts: int, decodable: bool
    ) -> None:
        """Keep the record with its cause and stage its copy for the dead-letter topic."""
        letter = self._letter(record, reason, detail, attempts, decodable)
        await self.letters.replace_one({"_id": letter["_id"]}, letter, upsert=True, session=work.session)
        work.stage_message(self._message(letter), new_id(), 0, letter["at"])

    async def find(
        self, *, after: str | None, limit: int, type_: str | None, reason: str | None, state: str | None
    ) -> Sequence[Document]:
        """Letters in the order of their ids, without their values."""
        wanted = {"type": type_, "reason": reason, "state": state}
        query: Document = {field: value for field, value in wanted.items() if value is not None}
        if after is not None:
            query["_id"] = {"$gt": after}
        return await self.letters.find(query, {"value": 0}).sort("_id", 1).limit(limit).to_list(None)

    async def get(self, id_: str, session: Session | None = None) -> Document | None:
        return await self.letters.find_one({"_id": id_}, session=session)

    async def settle(self, id_: str, state: str, work: UnitOfWork, *, note: str | None = None) -> None:
        """Mark a letter `replayed` or `discarded`."""
        await self.letters.update_one(
            {"_id": id_},
            {"$set": {"state": state, "settled_at": self._clock.now(), "note": note}},
            session=work.session,
        )

    def _letter(self, record: Record, reason: str, detail: str, attempts: int, decodable: bool) -> Document:
        value = record.value or b""
        # Headers of an undecodable record may be as strange as its value: only ours, cut to size, printable.
        headers = {h: _printable(text) for h in KEPT_HEADERS if (text := peek(record, h)) is not None}
        return {
            "_id": letter_id(record),
            "event_id": headers.get("ce_id"),
            "type": headers.get("ce_type"),
            "reason": reason,
            "detail": detail,
            "attempts": attempts,
            "topic": record.partition.topic,
            "partition": record.partition.number,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "key": Binary(record.key) if decodable and record.key else None,
            "headers": headers,
            "value": Binary(value) if decodable else None,
            "bytes": len(value),
            "sha256": hashlib.sha256(value).hexdigest(),
            "state": "dead",
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


def record_of(letter: Document) -> Record:
    """The record as it was read. Only for a letter whose value was kept."""
    return Record(
        Partition(letter["topic"], letter["partition"]),
        letter["offset"],
        bytes(letter["key"]),
        bytes(letter["value"]),
        tuple((name, value.encode()) for name, value in letter["headers"].items()),
        letter["timestamp"],
    )


def _printable(text: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text[:HEADER_CHARACTERS])
