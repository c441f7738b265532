"""Contacts of members: fetched in batches, kept encrypted for a while, forgotten when they change.

A cached contact carries the recipient's `contact_sequence`, so one that was fetched just before a change is not used
after it, whichever of the two was written first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from services.notifications.metrics import NotificationMetrics
from services.notifications.peers import Contact, MembersApi
from services.notifications.recipients import Recipient
from services.notifications.store import Store
from services.shared.clock import Clock
from services.shared.encryption import Vault


class ContactBook:
    """`seconds` is how long a contact is used without asking again."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        members: MembersApi,
        clock: Clock,
        metrics: NotificationMetrics,
        *,
        seconds: float,
    ) -> None:
        self._store = store
        self._vault = vault
        self._members = members
        self._clock = clock
        self._metrics = metrics
        self._life = timedelta(seconds=seconds)

    async def of(self, recipients: Sequence[Recipient]) -> dict[str, Contact]:
        """By member id; whom members does not know is missing.

        Raises: `TransientError` when members does not answer; `pymongo.errors.PyMongoError`.
        """
        versions = {r.member_id: r.contact_sequence for r in recipients}
        known = await self._cached(versions)
        asked = [id_ for id_ in versions if id_ not in known]
        if asked:
            fetched = await self._members.contacts(asked)
            await self._keep(fetched, versions)
            self._count("members", len(fetched))
            self._count("nowhere", len(asked) - len(fetched))
            known |= fetched
        return known

    async def _cached(self, versions: Mapping[str, int]) -> dict[str, Contact]:
        sealed = await self._store.cached_contacts(versions, self._clock.now() - self._life)
        if not sealed:
            return {}
        opened = await self._vault.open(sealed.items())
        self._count("cache", len(opened))
        return {id_: Contact(**each) for id_, each in zip(sealed, opened, strict=True)}

    async def _keep(self, fetched: Mapping[str, Contact], versions: Mapping[str, int]) -> None:
        if not fetched:
            return
        secrets = await self._vault.seal(
            (id_, {"name": c.name, "phone": c.phone, "email": c.email, "active": c.active})
            for id_, c in fetched.items()
        )
        await self._store.cache_contacts(
            dict(zip(fetched, secrets, strict=True)), versions, self._clock.now()
        )

    def _count(self, source: str, number: int) -> None:
        if number:
            self._metrics.contacts.labels(source).inc(number)
