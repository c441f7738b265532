"""Contacts, sealed and opened: the one place where a phone number or an address is in the clear."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bson.binary import Binary

from services.members.domain import Contact
from services.members.phones import BlindIndex
from services.members.store import Record
from services.shared.encryption import Vault


class Contacts:
    def __init__(self, vault: Vault, blind: BlindIndex) -> None:
        self._vault = vault
        self._blind = blind

    async def seal(self, contacts: Iterable[tuple[str, Contact]]) -> list[Binary]:
        """Each `(member id, contact)`, in order; as another member's it does not open."""
        return await self._vault.seal(
            (id_, {"phone": c.phone, "email": c.email, "handles": dict(c.handles)}) for id_, c in contacts
        )

    async def open(self, records: Sequence[Record]) -> list[Contact]:
        opened = await self._vault.open((record.member.id, record.contact) for record in records)
        return [Contact(**document) for document in opened]

    def phone_index(self, contact: Contact) -> str:
        return self._blind.of(contact.phone)

    def disguise(self, digest: bytes) -> bytes:
        """A digest of personal data that cannot be tried out: with all but the phone known, a plain one could be."""
        return self._blind.digest(digest)
