"""Reading notifications, for whoever may see the units of their members."""

from __future__ import annotations

from services.notifications.core.domain import Notification, State
from services.notifications.tracking.store import TrackingStore
from services.shared.errors import NotFoundError
from services.shared.identity import Identity


class TrackingService:
    def __init__(self, store: TrackingStore) -> None:
        self._store = store

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
        member_id: str | None,
        state: State | None,
        after: tuple[str, str] | None,
        limit: int,
    ) -> list[Notification]:
        """Up to `limit` notifications after the position `(unit, id)`.

        Raises: `NotFoundError` for an identity without access to any unit.
        """
        return await self._store.page(identity.accessible_root(None), member_id, state, after, limit)
