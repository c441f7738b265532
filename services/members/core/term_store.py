"""Terms of roles and their history, as the features `roles` (which owns the collections) and `merges` change
them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from services.members.core.terms import RoleChange, RoleRecord, Term, record_of
from services.shared.database import Codec, Collection, Database, Session

TERM: Final = Codec(Term, id_field="id", omit_none=("until",))
_RECORD: Final = Codec(RoleRecord, omit_none=("until", "actor"))


class TermStore:
    def __init__(self, database: Database) -> None:
        self._terms: Collection = database["role_terms"]
        self._history: Collection = database["role_history"]

    async def of(self, member_id: str, session: Session | None = None) -> list[Term]:
        """A member's terms that have not ended, or whose end has not been dealt with yet."""
        rows = self._terms.find({"member_id": member_id}, session=session).sort("_id", 1)
        return [TERM.decode(row) async for row in rows]

    async def save(self, term: Term, now: datetime, session: Session) -> None:
        document = TERM.encode(term)
        if due_at := term.changes_at(now):
            document["due_at"] = due_at
        await self._terms.replace_one({"_id": term.id}, document, upsert=True, session=session)

    async def remove(self, term: Term, session: Session) -> None:
        await self._terms.delete_one({"_id": term.id}, session=session)

    async def end(self, member_id: str, now: datetime, session: Session, actor: str | None = None) -> None:
        """End all terms of somebody who is no member any more."""
        if not (terms := await self.of(member_id, session)):
            return
        await self._terms.delete_many({"member_id": member_id}, session=session)
        ended = [term if term.ended(now) else replace(term, until=now) for term in terms]
        await self.record([record_of(term, RoleChange.ENDED, now, actor) for term in ended], session)

    async def record(self, records: Sequence[RoleRecord], session: Session) -> None:
        if records:
            await self._history.insert_many([_RECORD.encode(each) for each in records], session=session)

    async def history(self, member_id: str) -> list[RoleRecord]:
        """The oldest first."""
        rows = self._history.find({"member_id": member_id}).sort([("at", 1), ("_id", 1)])
        return [_RECORD.decode(row) async for row in rows]
