"""Gathering a dossier: what this service holds, and what the others say that they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from services.members.core.core import Core
from services.members.core.domain import Contact, Member
from services.members.core.erasures import PLANNED_FOR
from services.members.core.ledger import LedgerEntry, whole
from services.members.core.notices import Notice
from services.members.dossier.holders import Holders
from services.members.dossier.store import DossierStore
from services.shared.database import Document
from services.shared.identity import Identity

VIA: Final = "dossier"
_IMPORT: Final = "import:"


@dataclass(frozen=True, slots=True)
class HeldRecord:
    """All that is held about one record of a person. `others` is what the other services say, by name."""

    member: Member
    contact: Contact
    ledger: Sequence[LedgerEntry]
    terms: Sequence[Document]
    role_changes: Sequence[Document]
    others: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Dossier:
    """All that the four services hold about a person. `records` are that of the member who stands for them,
    then those that were merged into it; `reads` are the newest of `reads_total` occasions on which somebody
    was shown a contact of them."""

    records: Sequence[HeldRecord]
    notices: Sequence[Notice]
    merges: Sequence[Document]
    grievances: Sequence[Document]
    imports: Sequence[Document]
    reads: Sequence[Document]
    reads_total: int
    made_at: datetime


class Dossiers:
    def __init__(self, core: Core, store: DossierStore, holders: Holders) -> None:
        self._reader = core.reader
        self._contacts = core.contacts
        self._ledger = core.ledger
        self._notices = core.notices
        self._vault = core.vault
        self._clock = core.runtime.clock
        self._store = store
        self._holders = holders

    async def gather(self, caller: Identity, member_id: str) -> Dossier:
        """The dossier of the person of a member, also of one who left or was merged. That their contacts were
        read for it is on record, in this very dossier too.

        Raises: `NotFoundError`; `UnavailableError` when a service does not answer.
        """
        found = await self._reader.person(caller, member_id)
        ids = [record.member.id for record in found]
        others = [await self._holders.held(id_) for id_ in ids]
        contacts = await self._reader.open_contacts(caller, found, VIA)
        records = [
            await self._record(record.member, contact, held)
            for record, contact, held in zip(found, contacts, others, strict=True)
        ]
        ledger = [entry for record in records for entry in record.ledger]
        keys = [*ids, *(self._contacts.phone_index(contact) for contact in contacts)]
        reads, total = await self._store.reads(ids)
        return Dossier(
            records=records,
            notices=await self._notices.find_many({(each.notice, each.language) for each in ledger}),
            merges=await self._store.merges(ids),
            grievances=[await self._opened(each) for each in await self._store.grievances(ids)],
            imports=await self._store.imports(_imports_in(ledger), keys, self._clock.now() - PLANNED_FOR),
            reads=reads,
            reads_total=total,
            made_at=self._clock.now(),
        )

    async def _record(
        self, member: Member, contact: Contact, others: Mapping[str, Mapping[str, Any]]
    ) -> HeldRecord:
        return HeldRecord(
            member=member,
            contact=contact,
            ledger=whole(member, await self._ledger.of(member.id, upto=member.version)),
            terms=await self._store.terms(member.id),
            role_changes=await self._store.role_changes(member.id),
            others=others,
        )

    async def _opened(self, grievance: Document) -> Document:
        """The grievance with its words."""
        [words] = await self._vault.open([(grievance["id"], grievance.pop("sealed"))])
        return {**grievance, **words}


def _imports_in(ledger: Sequence[LedgerEntry]) -> set[str]:
    sources = {entry.source for entry in ledger}
    return {source.removeprefix(_IMPORT) for source in sources if source.startswith(_IMPORT)}
