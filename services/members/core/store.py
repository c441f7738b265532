"""The collections that all features share: members, and the record of who was shown their contacts.

`members`: the fields of `Member` (`_id` for `id`; those of `_OPTIONAL` only if they have a value), what it is
searched by (`search_fields.py`), `contact` (one sealed document `{phone, email?, handles}`), `phone_index`
(the keyed fingerprint of the phone, unique among active members; `-<id>` for a member without a phone, which
is nobody's fingerprint) or `former_phone` (see `erasure`), and after a restore `contact_lost`, `consent_lost`
and `phone_taken`, see `recovery`.
`contact_reads`: `{_id, subject, ids, via, at, request_id, about?, unit?}`, one for each time that someone was
shown contacts, or was told that a phone is that of an active member. `about` names what was read where that
is not members alone (`import:<id>`), `unit` is its unit.
`consent_ledger`: `LedgerEntry`, one for each change of a consent; see `ledger` for those of a registration.
`notices`: `{_id: {version, language}, text, sha256, registered_by, registered_at}`; never changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pymongo import IndexModel
from pymongo.errors import BulkWriteError, DuplicateKeyError

from services.members.core.domain import ConsentState, Member, Status
from services.members.core.ledger import LedgerEntry, Pair
from services.members.core.notices import Notice
from services.members.core.search_fields import search_fields
from services.shared.database import Codec, Collection, Database, Document, Migration, Session, create
from services.shared.encryption import Ciphertext, create_key_collection
from services.shared.errors import TransientError
from services.shared.faults import FaultFamily, classify

_ENTRY: Final = Codec(LedgerEntry, omit_none=("notice_sha256", "actor", "evidence"))
_NOTICE: Final = Codec(Notice)
_OPTIONAL: Final = (
    *("birth_year", "preferred_channel", "inviter_id", "origin", "announced", "merged_into"),
    *("reached_by", "minor"),
)
MEMBER: Final = Codec(Member, id_field="id", omit_none=_OPTIONAL)


class DuplicateError(TransientError):
    """A unique index refused a write: another request has just taken the phone or the idempotency key."""


@contextmanager
def unique() -> Iterator[None]:
    """Raises: `DuplicateError` in place of MongoDB's errors about duplicate keys."""
    try:
        yield
    except (DuplicateKeyError, BulkWriteError) as error:
        if classify(error) is not FaultFamily.RACE:
            raise
        raise DuplicateError from error


class SealedContact(NamedTuple):
    """A contact on its way into the store. `phone_index` is the keyed fingerprint of its phone."""

    ciphertext: Ciphertext
    phone_index: str


@dataclass(frozen=True, slots=True)
class Record:
    """A member as stored: `contact` is sealed."""

    member: Member
    contact: Ciphertext


class MemberStore:
    def __init__(self, database: Database) -> None:
        self._members: Collection = database["members"]
        self._reads: Collection = database["contact_reads"]

    async def find(self, member_id: str, session: Session | None = None) -> Record | None:
        row = await self._members.find_one({"_id": member_id}, session=session)
        return record_of(row) if row else None

    async def active_by_phone(
        self, indexes: Iterable[str], session: Session | None = None
    ) -> dict[str, tuple[str, str]]:
        """`{phone_index: (member id, unit)}` for each of `indexes` that belongs to an active member."""
        query = {"phone_index": {"$in": list(indexes)}, "status": Status.ACTIVE.value}
        rows = self._members.find(query, {"phone_index": 1, "unit": 1}, session=session)
        return {row["phone_index"]: (row["_id"], row["unit"]) async for row in rows}

    async def survivors(self, ids: Iterable[str]) -> dict[str, str]:
        """`{id: who stands for them}` for each of `ids` that belongs to a member who was merged."""
        found: dict[str, str] = {}
        asked = set(ids)
        while asked:
            query = {"_id": {"$in": list(asked)}, "status": Status.MERGED.value}
            rows = self._members.find(query, {"merged_into": 1})
            found |= {row["_id"]: row["merged_into"] async for row in rows}
            asked = {into for into in found.values() if into not in found} - asked
        return {id_: _root(id_, found) for id_ in found}

    async def with_number(self, ids: Iterable[str], session: Session | None = None) -> dict[str, str]:
        """`{id: unit}` for each of `ids` that belongs to an active member with a number of their own."""
        if not (asked := list(ids)):
            return {}
        query = {"_id": {"$in": asked}, "status": Status.ACTIVE.value, "reached_by": None}
        rows = self._members.find(query, {"unit": 1}, session=session)
        return {row["_id"]: row["unit"] async for row in rows}

    async def person(self, member_id: str, session: Session | None = None) -> list[Record]:
        """All records of the member's person: first of the one who stands for them, then of those who were
        merged into that one."""
        found = root = await self.find(member_id, session)
        while root is not None and root.member.merged_into is not None:
            found, root = root, await self.find(root.member.merged_into, session)
        records = [each] if (each := root or found) else []
        into = [record.member.id for record in records]
        while into:
            query = {"merged_into": {"$in": into}, "status": Status.MERGED.value}
            merged = [record_of(row) async for row in self._members.find(query, session=session)]
            records += merged
            into = [record.member.id for record in merged]
        return records

    async def existing(self, ids: Iterable[str], session: Session | None = None) -> set[str]:
        """The ones among `ids` that belong to a member, past or present."""
        if not (asked := list(ids)):
            return set()
        rows = self._members.find({"_id": {"$in": asked}}, {"_id": 1}, session=session)
        return {row["_id"] async for row in rows}

    async def insert(self, documents: Sequence[Document], session: Session) -> None:
        """Raises: `DuplicateError` when a phone has just been taken."""
        with unique():
            await self._members.insert_many(documents, session=session)

    async def save(
        self, member: Member, session: Session, contact: SealedContact | None = None, *, versions: int = 1
    ) -> bool:
        """Write a version over the one that is `versions` earlier; False when that one is no longer there.

        Without `contact` the stored one stays, which a rotation of keys may be replacing meanwhile.

        Raises: `DuplicateError` when the phone has just been taken.
        """
        document = document_of(member, contact)
        absent = {name: "" for name in MEMBER.omitted if name not in document}
        query = {"_id": document.pop("_id"), "version": member.version - versions}
        change = {"$set": document, **({"$unset": absent} if absent else {})}
        with unique():
            result = await self._members.update_one(query, change, session=session)
        return result.matched_count == 1

    async def record_read(self, read: Document) -> None:
        await self._reads.insert_one(read)


class ConsentLedger:
    """Entries are added and read; nothing changes them."""

    def __init__(self, database: Database) -> None:
        self._entries: Collection = database["consent_ledger"]

    async def add(self, entries: Sequence[LedgerEntry], session: Session) -> None:
        if entries:
            await self._entries.insert_many([_ENTRY.encode(entry) for entry in entries], session=session)

    async def of(self, member_id: str, *, upto: int) -> list[LedgerEntry]:
        """The entries of a member until the version `upto`, in order."""
        query = {"member_id": member_id, "sequence": {"$lte": upto}}
        return [_ENTRY.decode(row) async for row in self._entries.find(query).sort("sequence", 1)]

    async def pairs(self, member_id: str, session: Session) -> set[Pair]:
        """The `(purpose, channel)` of which the member's ledger has an entry."""
        rows = self._entries.find({"member_id": member_id}, {"purpose": 1, "channel": 1}, session=session)
        return {(row["purpose"], row["channel"]) async for row in rows}


class NoticeStore:
    def __init__(self, database: Database) -> None:
        self._notices: Collection = database["notices"]

    async def find(self, version: str, language: str, session: Session | None = None) -> Notice | None:
        row = await self._notices.find_one({"_id": _key(version, language)}, session=session)
        return _NOTICE.decode(row) if row else None

    async def find_many(self, named: Iterable[tuple[str, str]]) -> list[Notice]:
        """The notices among these `(version, language)` that are registered."""
        keys = [_key(*each) for each in sorted(named)]
        return [_NOTICE.decode(row) async for row in self._notices.find({"_id": {"$in": keys}})]

    async def add(self, notice: Notice) -> bool:
        """False when the version and language have a text already."""
        try:
            await self._notices.insert_one(
                {"_id": _key(notice.version, notice.language), **_NOTICE.encode(notice)}
            )
        except DuplicateKeyError:
            return False
        return True


def _key(version: str, language: str) -> Document:
    return {"version": version, "language": language}


def _root(id_: str, merged_into: Mapping[str, str]) -> str:
    while id_ in merged_into:
        id_ = merged_into[id_]
    return id_


def document_of(member: Member, contact: SealedContact | None = None) -> Document:
    document = MEMBER.encode(member) | search_fields(member)
    if contact is not None:
        document["contact"] = contact.ciphertext
        document["phone_index"] = contact.phone_index
    return document


def record_of(row: Mapping[str, Any]) -> Record:
    return Record(MEMBER.decode(row), row["contact"])


_MEMBER_FIELDS: Final[Document] = {
    "name": {"bsonType": "string"},
    "unit": {"bsonType": "string"},
    "version": {"bsonType": ["int", "long"], "minimum": 1},
    "contact": {"bsonType": "binData"},
    "phone_index": {"bsonType": "string"},
}


async def _create(database: Database) -> None:
    await create_key_collection(database)
    await create(
        database,
        "members",
        required={
            **_MEMBER_FIELDS,
            "status": {"enum": ["active", "left"]},
        },
        indexes=[
            IndexModel("phone_index", unique=True, partialFilterExpression={"status": Status.ACTIVE.value}),
            IndexModel([("unit", 1), ("_id", 1)]),
            IndexModel([("words", 1), ("unit", 1)]),
        ],
    )
    await create(
        database,
        "contact_reads",
        required={
            "subject": {"bsonType": "string"},
            "ids": {"bsonType": "array"},
            "at": {"bsonType": "date"},
        },
    )


async def _ledger(database: Database) -> None:
    await create(
        database,
        "consent_ledger",
        required={
            **{
                name: {"bsonType": "string"}
                for name in ("member_id", "purpose", "channel", "notice", "language", "source")
            },
            "sequence": {"bsonType": ["int", "long"], "minimum": 1},
            "state": {"enum": [state.value for state in ConsentState]},
            "at": {"bsonType": "date"},
        },
        # Unique: no change is recorded twice.
        indexes=[
            IndexModel([("member_id", 1), ("sequence", 1), ("purpose", 1), ("channel", 1)], unique=True)
        ],
    )


async def _merged(database: Database) -> None:
    # A text: the words are those of `Status`, and a later release may have more of them.
    await create(
        database,
        "members",
        required={**_MEMBER_FIELDS, "status": {"bsonType": "string"}},
        indexes=[
            IndexModel(
                "phone_index",
                name="phone_index_of_merged",
                partialFilterExpression={"status": Status.MERGED.value},
            )
        ],
    )


MIGRATIONS: Final = (
    Migration("core-0001", "keys, members, contact_reads", _create),
    Migration("core-0002", "consent_ledger", _ledger),
    Migration("core-0003", "members may be merged", _merged),
)
