"""The cache of contacts: fetched in batches, kept sealed for a while, forgotten when they change.

A cached contact carries the recipient's `contact_sequence`. So one that was fetched just before a change is
not used after it, whichever of the two was written first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from services.notifications.core.clients.members import Contact
from services.notifications.core.core import Core
from services.notifications.core.recipients import Recipient
from services.notifications.sending.store import ContactStore
from services.shared.database import Codec

_CONTACT: Final = Codec(Contact)


class ContactCache:
    def __init__(self, core: Core) -> None:
        self._store = ContactStore(core.runtime.database)
        self._vault = core.vault
        self._members = core.members
        self._clock = core.clock
        self._metrics = core.metrics
        self._lifetime = timedelta(seconds=core.settings.contact_seconds)

    async def contacts(self, recipients: Sequence[Recipient]) -> dict[str, Contact]:
        """By member id; members whom their service does not know are missing.

        Raises: `TransientError` when members does not answer; `pymongo.errors.PyMongoError`.
        """
        versions = {r.member_id: r.contact_sequence for r in recipients}
        known = await self._cached(versions)
        wanted = [id_ for id_ in versions if id_ not in known]
        if wanted:
            fetched = await self._members.contacts(wanted)
            await self._keep(fetched, versions)
            self._count("members", len(fetched))
            self._count("nowhere", len(wanted) - len(fetched))
            known |= fetched
        return known

    async def _cached(self, versions: Mapping[str, int]) -> dict[str, Contact]:
        sealed = await self._store.find(versions, self._clock.now() - self._lifetime)
        if not sealed:
            return {}
        opened = await self._vault.open(sealed.items())
        self._count("cache", len(opened))
        return {id_: _CONTACT.decode(each) for id_, each in zip(sealed, opened, strict=True)}

    async def _keep(self, fetched: Mapping[str, Contact], versions: Mapping[str, int]) -> None:
        if not fetched:
            return
        sealed = await self._vault.seal((id_, _CONTACT.encode(contact)) for id_, contact in fetched.items())
        await self._store.save(dict(zip(fetched, sealed, strict=True)), versions, self._clock.now())

    def _count(self, source: str, number: int) -> None:
        if number:
            self._metrics.contacts.labels(source).inc(number)
