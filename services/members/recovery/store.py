"""The members of a restored dump, brought up to date, and the members that the dump does not have.

`lost`: `{_id: member id, unit, sequence, left, told?}`, the members known only from published events.
`members` has `phone_taken` for who was parted from another after the dump while another active member has the
phone: false until the end of the log, true once they are announced as left.
"""

from __future__ import annotations

from collections.abc import Collection as Many
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pymongo import UpdateOne

from services.members.core.domain import Member, Status
from services.members.core.store import MEMBER
from services.shared.contracts.members import RoleHeld
from services.shared.database import Collection, Database, Document, Migration, Session, create
from services.shared.ids import new_id


@dataclass(frozen=True, slots=True)
class LostMember:
    """A member known only from published events. `left`: the member's leaving is one of them."""

    member_id: str
    unit: str
    sequence: int
    left: bool


class RecoveryStore:
    def __init__(self, database: Database) -> None:
        self._members: Collection = database["members"]
        self._lost: Collection = database["lost"]
        self._terms: Collection = database["role_terms"]

    async def versions(self, ids: Sequence[str], session: Session) -> dict[str, int]:
        rows = self._members.find({"_id": {"$in": list(ids)}}, {"version": 1}, session=session)
        return {row["_id"]: row["version"] async for row in rows}

    async def change(self, changes: Mapping[str, Document], session: Session) -> None:
        """Set fields of members; a new status ends what was to be decided about an earlier one."""
        writes = []
        for member_id, fields in changes.items():
            decided = "status" in fields and "phone_taken" not in fields
            unset = {"$unset": {"phone_taken": ""}} if decided else {}
            writes.append(UpdateOne({"_id": member_id}, {"$set": fields, **unset}))
        if writes:
            await self._members.bulk_write(writes, ordered=False, session=session)

    async def phones_taken(self, ids: Sequence[str], session: Session) -> set[str]:
        """The ones among these members whose phone another active member has, or an earlier one of them."""
        if not ids:
            return set()
        rows = self._members.find({"_id": {"$in": list(ids)}}, {"phone_index": 1}, session=session)
        phones = {row["_id"]: row["phone_index"] async for row in rows}
        held = {
            "phone_index": {"$in": list(phones.values())},
            "status": Status.ACTIVE.value,
            "_id": {"$nin": list(ids)},
        }
        holders = self._members.find(held, {"phone_index": 1}, session=session)
        seen = {row["phone_index"] async for row in holders}
        taken = set()
        for member_id, phone in sorted(phones.items()):
            if phone in seen:
                taken.add(member_id)
            seen.add(phone)
        return taken

    async def undecided(self, session: Session, limit: int = 500) -> dict[str, tuple[str, int]]:
        """`{id: (unit, version)}` of some members who wait for the end of the log, since their phone was
        taken."""
        fields = {"unit": 1, "version": 1}
        rows = self._members.find({"phone_taken": False}, fields, session=session).limit(limit)
        return {row["_id"]: (row["unit"], row["version"]) async for row in rows}

    async def decide(self, ids: Iterable[str], taken: Many[str], session: Session) -> None:
        """Make these members active again, but for the `taken`, who have the version of their leaving."""
        active: Document = {"$set": {"status": Status.ACTIVE.value}, "$unset": {"phone_taken": ""}}
        left: Document = {"$set": {"phone_taken": True, "roles": []}, "$inc": {"version": 1}}
        if writes := [UpdateOne({"_id": id_}, left if id_ in taken else active) for id_ in ids]:
            await self._members.bulk_write(writes, ordered=False, session=session)
        await self.set_terms(dict.fromkeys(taken, ()), session)

    async def mark_contacts_lost(self, ids: Sequence[str], session: Session) -> None:
        if ids:
            change = {"$set": {"contact_lost": True}}
            await self._members.update_many({"_id": {"$in": list(ids)}}, change, session=session)

    async def members(self, ids: Sequence[str], session: Session) -> dict[str, Member]:
        rows = self._members.find({"_id": {"$in": list(ids)}}, session=session)
        return {row["_id"]: MEMBER.decode(row) async for row in rows}

    async def set_consents(self, member: Member, session: Session) -> None:
        consents = MEMBER.encode(member)["consents"]
        await self._members.update_one({"_id": member.id}, {"$set": {"consents": consents}}, session=session)

    async def mark_consents_lost(self, ids: Sequence[str], session: Session) -> None:
        if ids:
            change = {"$set": {"consent_lost": True}}
            await self._members.update_many({"_id": {"$in": list(ids)}}, change, session=session)

    async def set_terms(self, held: Mapping[str, Sequence[RoleHeld]], session: Session) -> None:
        """Replace the terms of the roles of these members."""
        if not held:
            return
        await self._terms.delete_many({"member_id": {"$in": list(held)}}, session=session)
        rows = [_term(member_id, role) for member_id, roles in held.items() for role in roles]
        if rows:
            await self._terms.insert_many(rows, session=session)

    async def lost_sequences(self, ids: Sequence[str], session: Session) -> dict[str, int]:
        """The sequence that each lost member had reached."""
        rows = self._lost.find({"_id": {"$in": list(ids)}}, {"sequence": 1}, session=session)
        return {row["_id"]: row["sequence"] async for row in rows}

    async def add_lost(self, lost: Sequence[LostMember], session: Session) -> None:
        if lost:
            writes = [
                UpdateOne(
                    {"_id": each.member_id},
                    {"$set": {"unit": each.unit, "sequence": each.sequence, "left": each.left}},
                    upsert=True,
                )
                for each in lost
            ]
            await self._lost.bulk_write(writes, ordered=False, session=session)

    async def unannounced(self, session: Session, limit: int = 500) -> list[LostMember]:
        """Some of the lost members whose loss has not been published yet."""
        rows = self._lost.find({"left": False, "told": None}, session=session).limit(limit)
        return [LostMember(r["_id"], r["unit"], r["sequence"], r["left"]) for r in await rows.to_list(limit)]

    async def mark_announced(self, ids: Sequence[str], session: Session) -> None:
        await self._lost.update_many({"_id": {"$in": list(ids)}}, {"$set": {"told": True}}, session=session)

    async def counts(self) -> tuple[int, int, int, int, int]:
        """Members, lost members, and members whose name or contact changed, who gave a consent, or who were
        parted from another and whose phone is taken, after the dump."""
        return (
            await self._members.count_documents({}),
            await self._lost.count_documents({"told": True}),
            await self._members.count_documents({"contact_lost": True}),
            await self._members.count_documents({"consent_lost": True}),
            await self._members.count_documents({"phone_taken": True}),
        )


def _term(member_id: str, held: RoleHeld) -> Document:
    """As the feature `roles` stores it."""
    term: Document = {"role": held.role, "unit": held.unit, "since": held.since}
    if held.until is not None:
        term |= {"until": held.until, "due_at": held.until}
    return {"_id": new_id(), "member_id": member_id, **term}


async def _create(database: Database) -> None:
    await create(database, "lost")


MIGRATIONS: Final = (Migration("recovery-0001", "lost", _create),)
