"""Taking a member out of use, in the transaction of the request or of its replay after a restore."""

from __future__ import annotations

from dataclasses import replace

from services.members.core.contacts import Contacts
from services.members.core.erasing import Erasure
from services.members.core.erasures import ErasureStore
from services.members.core.store import record_of
from services.shared.database import Document
from services.shared.encryption import Vault
from services.shared.messaging import UnitOfWork


class Eraser:
    def __init__(self, store: ErasureStore, vault: Vault, contacts: Contacts) -> None:
        self._store = store
        self._vault = vault
        self._contacts = contacts

    async def erase(self, erasure: Erasure, work: UnitOfWork) -> Erasure:
        """Delete all that is known of the member, but for a seal where the rule has one, and the number for
        as long as the person may be in a chat group. Answers the erasure as it is stored."""
        removed = await self._store.remove(
            erasure.member_id, erasure.requested_at, work.session, self._fingerprints
        )
        erasure = replace(erasure, destroyed=removed.counts())
        number = None
        if removed.member is not None:
            record = record_of(removed.member)
            [contact] = await self._contacts.open([record])
            if contact.phone and erasure.needs_number:
                who = {"name": record.member.name, "phone": contact.phone}
                [number] = await self._vault.seal([(erasure.id, who)])
        if erasure.needs_seal:
            await self._store.seal(erasure, removed, self._vault, work.session)
        await self._store.add(erasure, number, work.session)
        return erasure

    def _fingerprints(self, member: Document) -> list[str]:
        if (reached_by := member.get("reached_by")) is None:
            return [member["phone_index"]]
        return [self._contacts.dependent(reached_by, member["name"])]
