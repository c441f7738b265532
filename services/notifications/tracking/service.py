"""Reading notifications, for whoever may see the units of their members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from services.notifications.core.domain import Notification, State
from services.notifications.tracking.store import TrackingStore
from services.shared.database import Document
from services.shared.encryption import Vault
from services.shared.errors import NotFoundError
from services.shared.identity import Identity

HELD: Final = 1000
"""Most notifications of one member that are gathered, the newest."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """All that is held about a member: `recipient` is what the events told, None if nothing. `messages` are
    the newest of `total` notifications, `kept` the `{address, text}` of those whose text was kept,
    `deliveries` the records of what gateways got."""

    recipient: Document | None
    messages: Sequence[Notification]
    kept: Mapping[str, Document]
    total: int
    deliveries: Sequence[Document]


class TrackingService:
    def __init__(self, store: TrackingStore, vault: Vault) -> None:
        self._store = store
        self._vault = vault

    async def held(self, caller: Identity, member_id: str) -> Holdings:
        """Raises: `NotFoundError` for a member outside the caller's units; for one unknown, who may be
        anywhere, unless the caller has all units."""
        recipient = await self._store.recipient(member_id)
        messages, total = await self._store.of_member(member_id, HELD)
        units = {recipient["unit"]} if recipient else {each.unit for each in messages}
        if not units:
            caller.check_all_units()
        for unit in units:
            caller.check_access(unit)
        sealed = await self._store.recorded([each.id for each in messages])
        opened = await self._vault.open(sealed.items())
        deliveries = await self._store.deliveries(member_id, HELD)
        return Holdings(recipient, messages, dict(zip(sealed, opened, strict=True)), total, deliveries)

    async def get(self, identity: Identity, notification_id: str) -> Notification:
        """Raises: `NotFoundError` when there is none, or its member is outside the identity's units now."""
        notification = await self._store.find(notification_id)
        if notification is None:
            raise NotFoundError
        identity.check_access(notification.unit)
        return notification

    async def page(
        self,
        identity: Identity,
        *,
        unit: str | None,
        member_id: str | None,
        state: State | None,
        reason: str | None,
        after: tuple[str, str] | None,
        limit: int,
    ) -> list[Notification]:
        """Up to `limit` notifications after the position `(unit, id)`. `reason` is why it failed or was
        suppressed, is held, or is deferred.

        Raises: `NotFoundError` for an identity without access to any unit, or to this one.
        """
        root = identity.accessible_root(unit)
        return await self._store.page(root, member_id, state, after, limit, reason)

    async def summary(self, identity: Identity, unit: str | None) -> list[Document]:
        """Raises: `NotFoundError` for an identity without access to any unit, or to this one."""
        return await self._store.summary(identity.accessible_root(unit))
