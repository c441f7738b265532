"""Contacts, sealed and opened: the one place where a phone number or an address is in the clear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.members.core.domain import Contact
from services.members.core.phones import BlindIndex
from services.members.core.store import Record, SealedContact
from services.shared.database import Codec
from services.shared.encryption import Vault
from services.shared.text import words

CONTACT: Final = Codec(Contact)


class Contacts:
    def __init__(self, vault: Vault, blind: BlindIndex) -> None:
        self._vault = vault
        self._blind = blind

    async def seal(self, contacts: Sequence[tuple[str, Contact]]) -> list[SealedContact]:
        """Seal each `(member id, contact)`, in order; it opens only as that member's."""
        sealed = await self._vault.seal((id_, CONTACT.encode(contact)) for id_, contact in contacts)
        return [
            SealedContact(ciphertext, self.phone_index(contact) if contact.phone else f"-{id_}")
            for ciphertext, (id_, contact) in zip(sealed, contacts, strict=True)
        ]

    async def open(self, records: Sequence[Record]) -> list[Contact]:
        opened = await self._vault.open((record.member.id, record.contact) for record in records)
        return [CONTACT.decode(document) for document in opened]

    def phone_index(self, contact: Contact) -> str:
        return self.fingerprint(contact.phone)

    def fingerprint(self, number: str) -> str:
        """The keyed fingerprint of a number in E.164."""
        return self._blind.of(number)

    def dependent(self, reached_by: str, name: str) -> str:
        """The fingerprint by which an import knows somebody without a number again."""
        return self.fingerprint(f"{reached_by} {' '.join(words(name))}")

    def keyed_digest(self, digest: bytes) -> bytes:
        """A digest of personal data that cannot be guessed; a plain one could, by trying all phones."""
        return self._blind.digest(digest)
