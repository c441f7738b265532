"""Handler of events that make a cached contact stale."""

from __future__ import annotations

from collections.abc import Sequence

from services.notifications.core.core import Core
from services.notifications.sending.store import ContactStore
from services.shared.contracts.base import Envelope
from services.shared.contracts.members import MemberLeft, MemberUpdated
from services.shared.messaging import UnitOfWork


class ContactHandlers:
    def __init__(self, core: Core) -> None:
        self._contacts = ContactStore(core.runtime.database)

    async def contact_changed(
        self, events: Sequence[Envelope[MemberUpdated | MemberLeft]], work: UnitOfWork
    ) -> None:
        """Forget the contacts of members who left or whose name or address changed."""
        stale = [e.subject for e in events if isinstance(e.data, MemberLeft) or e.data.contact_changed]
        if stale:
            await self._contacts.delete(stale, work.session)
