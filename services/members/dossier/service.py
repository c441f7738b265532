"""Gathering a dossier: what this service holds, and what the others say that they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from services.members.core.core import Core
from services.members.core.domain import Contact, Member
from services.members.core.ledger import LedgerEntry, whole
from services.members.core.notices import Notice
from services.members.dossier.holders import Holders
from services.members.dossier.store import DossierStore
from services.shared.database import Document
from services.shared.identity import Identity

VIA: Final = "dossier"
_IMPORT: Final = "import:"


@dataclass(frozen=True, slots=True)
class Dossier:
    """All that the four services hold about a member. `others` is what the other three say, by name; `reads`
    are the newest of `reads_total` occasions on which somebody was shown the contact."""

    member: Member
    contact: Contact
    ledger: Sequence[LedgerEntry]
    notices: Sequence[Notice]
    terms: Sequence[Document]
    role_changes: Sequence[Document]
    imports: Sequence[Document]
    reads: Sequence[Document]
    reads_total: int
    others: Mapping[str, Mapping[str, Any]]
    made_at: datetime


class Dossiers:
    def __init__(self, core: Core, store: DossierStore, holders: Holders) -> None:
        self._reader = core.reader
        self._ledger = core.ledger
        self._notices = core.notices
        self._clock = core.runtime.clock
        self._store = store
        self._holders = holders

    async def gather(self, caller: Identity, member_id: str) -> Dossier:
        """The dossier of a member, also of one who left. That the contact was read for it is on record, in
        this very dossier too.

        Raises: `NotFoundError`; `UnavailableError` when a service does not answer.
        """
        record = await self._reader.find(caller, member_id)
        others = await self._holders.held(member_id)
        [contact] = await self._reader.open_contacts(caller, [record], VIA)
        member = record.member
        ledger = whole(member, await self._ledger.of(member_id, upto=member.version))
        reads, total = await self._store.reads(member_id)
        return Dossier(
            member=member,
            contact=contact,
            ledger=ledger,
            notices=await self._notices.find_many({(each.notice, each.language) for each in ledger}),
            terms=await self._store.terms(member_id),
            role_changes=await self._store.role_changes(member_id),
            imports=await self._store.imports(_imports_in(ledger)),
            reads=reads,
            reads_total=total,
            others=others,
            made_at=self._clock.now(),
        )


def _imports_in(ledger: Sequence[LedgerEntry]) -> set[str]:
    sources = {entry.source for entry in ledger}
    return {source.removeprefix(_IMPORT) for source in sources if source.startswith(_IMPORT)}
