"""The only queries of this service, and the shapes of its collections.

`members`: `{_id, name, words, unit, gender, language, birth_year?, platforms, roles, consents, status, inviter_id?,
joined_at, updated_at, version, contact, contact_lost?, phone_index}`; `contact` is one sealed document `{phone, email?, handles}`,
`phone_index` the keyed fingerprint of the phone, unique among active members.
`lost`: `{_id: member id, unit, sequence, left, told?}`, whom a restored dump does not know and the log does.
`contact_reads`: `{_id, subject, ids, via, at, request_id}`, one for each time contacts were shown to someone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bson.binary import Binary
from pymongo import IndexModel, UpdateOne

from services.members.domain import Consent, Member, Role, Status
from services.shared.contracts.vocabulary import subtree
from services.shared.database import Collection, Database, Document, Migration, Session, create
from services.shared.encryption import create_key_collection
from services.shared.http.idempotency import COLLECTION
from services.shared.operations.rotation import Sealed
from services.shared.text import words

_OPTIONAL: Final = ("birth_year", "inviter_id")
_HIGHEST: Final = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Record:
    """A member as stored: `contact` is sealed."""

    member: Member
    contact: Binary


@dataclass(frozen=True, slots=True)
class Search:
    """What a list asks for. `root` is the unit whose subtree contains the members, None all units."""

    root: str | None = None
    role: str | None = None
    gender: str | None = None
    language: str | None = None
    platform: str | None = None
    status: str | None = None
    words: tuple[str, ...] = ()
    """Beginnings of words of the name, all of which must match."""


class MemberStore:
    def __init__(self, database: Database) -> None:
        self._members: Collection = database["members"]
        self._reads: Collection = database["contact_reads"]

    async def find(self, member_id: str) -> Record | None:
        row = await self._members.find_one({"_id": member_id})
        return record_of(row) if row else None

    async def find_many(self, ids: Sequence[str]) -> list[Record]:
        return [record_of(row) async for row in self._members.find({"_id": {"$in": list(ids)}})]

    async def page(self, search: Search, after: str | None, limit: int) -> list[Record]:
        """At most `limit` members after the id `after`, by id: the one order that no write disturbs."""
        query = _query(search)
        if after is not None:
            query["_id"] = {"$gt": after}
        rows = self._members.find(query).sort("_id", 1).limit(limit)
        return [record_of(row) for row in await rows.to_list(limit)]

    async def active_by_phone(
        self, indexes: Iterable[str], session: Session | None = None
    ) -> dict[str, tuple[str, str]]:
        """`{phone_index: (member id, unit)}` of those that an active member has."""
        query = {"phone_index": {"$in": list(indexes)}, "status": Status.ACTIVE.value}
        rows = self._members.find(query, {"phone_index": 1, "unit": 1}, session=session)
        return {row["phone_index"]: (row["_id"], row["unit"]) async for row in rows}

    async def known(self, ids: Iterable[str], session: Session | None = None) -> set[str]:
        """Those of `ids` that are a member, past or present."""
        if not (asked := list(ids)):
            return set()
        rows = self._members.find({"_id": {"$in": asked}}, {"_id": 1}, session=session)
        return {row["_id"] async for row in rows}

    async def insert(self, documents: Sequence[Document], session: Session) -> None:
        """Raises: `pymongo.errors.BulkWriteError` (duplicate key) when a phone has just been taken."""
        await self._members.insert_many(documents, session=session)

    async def save(
        self,
        member: Member,
        session: Session,
        *,
        contact: Binary | None = None,
        phone_index: str | None = None,
    ) -> bool:
        """Write the next version over the one before it; False when that one is no longer there.

        Raises: `pymongo.errors.DuplicateKeyError` when the phone has just been taken.
        """
        document = document_of(member)
        if contact is not None:
            document["contact"] = contact
        if phone_index is not None:
            document["phone_index"] = phone_index
        absent = {name: "" for name in _OPTIONAL if name not in document}
        result = await self._members.update_one(
            {"_id": document.pop("_id"), "version": member.version - 1},
            {"$set": document, **({"$unset": absent} if absent else {})},
            session=session,
        )
        return result.matched_count == 1

    async def record_read(self, read: Document) -> None:
        await self._reads.insert_one(read)


class Answers:
    """Rows of the runtime's collection `idempotency`, each with the `member` document that its request made."""

    def __init__(self, database: Database) -> None:
        self._answers: Collection = database[COLLECTION]

    async def find(self, ids: Iterable[bytes], session: Session) -> dict[bytes, Document]:
        if not (asked := list(ids)):
            return {}
        return {row["_id"]: row async for row in self._answers.find({"_id": {"$in": asked}}, session=session)}

    async def insert(self, rows: Iterable[Document | None], session: Session) -> None:
        if documents := [row for row in rows if row is not None]:
            await self._answers.insert_many(documents, session=session)


@dataclass(frozen=True, slots=True)
class Loss:
    """Somebody of whom there is nothing but what was told of them; `left` if that they left is among it."""

    member_id: str
    unit: str
    sequence: int
    left: bool


class Recovery:
    """What `rebuild` does to a restored dump."""

    def __init__(self, database: Database) -> None:
        self._members: Collection = database["members"]
        self._lost: Collection = database["lost"]

    async def versions(self, ids: Sequence[str], session: Session) -> dict[str, int]:
        rows = self._members.find({"_id": {"$in": list(ids)}}, {"version": 1}, session=session)
        return {row["_id"]: row["version"] async for row in rows}

    async def change(self, changes: Mapping[str, Document], session: Session) -> None:
        if writes := [UpdateOne({"_id": i}, {"$set": fields}) for i, fields in changes.items()]:
            await self._members.bulk_write(writes, ordered=False, session=session)

    async def lose_contacts(self, ids: Sequence[str], session: Session) -> None:
        if ids:
            what = {"$set": {"contact_lost": True}}
            await self._members.update_many({"_id": {"$in": list(ids)}}, what, session=session)

    async def losses(self, ids: Sequence[str], session: Session) -> dict[str, int]:
        """The sequence that each had reached."""
        rows = self._lost.find({"_id": {"$in": list(ids)}}, {"sequence": 1}, session=session)
        return {row["_id"]: row["sequence"] async for row in rows}

    async def lose(self, losses: Sequence[Loss], session: Session) -> None:
        if losses:
            writes = [
                UpdateOne(
                    {"_id": o.member_id},
                    {"$set": {"unit": o.unit, "sequence": o.sequence, "left": o.left}},
                    upsert=True,
                )
                for o in losses
            ]
            await self._lost.bulk_write(writes, ordered=False, session=session)

    async def to_be_told(self, session: Session, limit: int = 500) -> list[Loss]:
        """Some of those of whom nobody has heard yet that they are gone."""
        rows = self._lost.find({"left": False, "told": None}, session=session).limit(limit)
        return [Loss(r["_id"], r["unit"], r["sequence"], r["left"]) for r in await rows.to_list(limit)]

    async def told(self, ids: Sequence[str], session: Session) -> None:
        await self._lost.update_many({"_id": {"$in": list(ids)}}, {"$set": {"told": True}}, session=session)

    async def count(self) -> tuple[int, int, int]:
        """Members, those lost, and those whose contact is older than what was told of it."""
        return (
            await self._members.count_documents({}),
            await self._lost.count_documents({"told": True}),
            await self._members.count_documents({"contact_lost": True}),
        )


def document_of(member: Member) -> Document:
    """Everything but the contact; without fields that have no value."""
    m = member
    document: Document = {
        "_id": m.id,
        "name": m.name,
        "words": list(words(m.name)),
        "unit": m.unit,
        "gender": m.gender,
        "language": m.language,
        "platforms": list(m.platforms),
        "roles": [{"role": r.role, "unit": r.unit} for r in m.roles],
        "consents": [_consent(consent) for consent in m.consents],
        "status": m.status,
        "joined_at": m.joined_at,
        "updated_at": m.updated_at,
        "version": m.version,
    }
    for name in _OPTIONAL:
        if (value := getattr(m, name)) is not None:
            document[name] = value
    return document


def _consent(consent: Consent) -> Document:
    c = consent
    return {
        "purpose": c.purpose,
        "channel": c.channel,
        "notice": c.notice,
        "language": c.language,
        "at": c.at,
        "source": c.source,
        "state": c.state,
    }


def record_of(row: Document) -> Record:
    member = Member(
        id=row["_id"],
        name=row["name"],
        unit=row["unit"],
        gender=row["gender"],
        language=row["language"],
        birth_year=row.get("birth_year"),
        platforms=tuple(row["platforms"]),
        roles=tuple(Role(**role) for role in row["roles"]),
        consents=tuple(Consent(**consent) for consent in row["consents"]),
        status=row["status"],
        inviter_id=row.get("inviter_id"),
        joined_at=row["joined_at"],
        updated_at=row["updated_at"],
        version=row["version"],
    )
    return Record(member, row["contact"])


def _query(search: Search) -> Document:
    query: Document = {"unit": subtree(search.root)} if search.root else {}
    # $elemMatch, or one word could satisfy the lower bound and another the upper one.
    conditions = [
        {"words": {"$elemMatch": {"$gte": start, "$lt": start + _HIGHEST}}} for start in search.words
    ]
    if conditions:
        query["$and"] = conditions
    exact: dict[str, Any] = {
        "roles.role": search.role,
        "gender": search.gender,
        "language": search.language,
        "platforms": search.platform,
        "status": search.status,
    }
    query.update({name: value for name, value in exact.items() if value is not None})
    return query


async def _members(database: Database) -> None:
    await create_key_collection(database)
    await create(
        database,
        "members",
        required={
            "name": {"bsonType": "string"},
            "unit": {"bsonType": "string"},
            "status": {"enum": [status.value for status in Status]},
            "version": {"bsonType": ["int", "long"], "minimum": 1},
            "contact": {"bsonType": "binData"},
            "phone_index": {"bsonType": "string"},
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


async def _lost(database: Database) -> None:
    await create(database, "lost")


SEALED: Final = (Sealed("members", "contact", "contacts"),)
MIGRATIONS: Final = (
    Migration(1, "members, keys, contact_reads", _members),
    Migration(2, "lost", _lost),
)
