"""Changes of templates: written with what follows from them, so that what waited for one goes at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from services.notifications.core.store import NotificationStore
from services.notifications.core.templates.domain import Approval, ApprovalState, TextVersion, Unfit
from services.notifications.core.templates.store import TemplateStore
from services.notifications.core.updates import Notice
from services.shared.clock import Clock
from services.shared.messaging import UnitOfWork

STATES: Final[Mapping[str, ApprovalState]] = {
    **dict.fromkeys(("approved", "reinstated", "unarchived"), ApprovalState.APPROVED),
    **dict.fromkeys(("pending", "in_appeal"), ApprovalState.SUBMITTED),
    **dict.fromkeys(("paused", "limit_exceeded"), ApprovalState.PAUSED),
    **dict.fromkeys(
        ("disabled", "archived", "deleted", "pending_deletion", "locked"), ApprovalState.DISABLED
    ),
    "rejected": ApprovalState.REJECTED,
}
"""The meaning of WhatsApp's words for a template's state (Meta, `message_template_status_update`). A
flagged one goes on as before."""


class TemplateChanges:
    """`due` is set when a notification that waited may go."""

    def __init__(
        self, store: TemplateStore, notifications: NotificationStore, clock: Clock, due: asyncio.Event
    ) -> None:
        self._store = store
        self._notifications = notifications
        self._clock = clock
        self._due = due

    async def add(self, version: TextVersion, work: UnitOfWork) -> None:
        await self._followed(work)  # first: of two processes with the same version, one runs again
        await self._store.add(version, work.session)

    async def approve(self, id_: str, approval: Approval, work: UnitOfWork) -> None:
        await self._store.approve(id_, approval, work.session)
        await self._followed(work)

    async def told(self, channel: str, notice: Notice, work: UnitOfWork) -> None:
        """A provider tells the state of a template: it counts if no later change is known."""
        state = STATES.get(notice.state)
        if state is None or notice.language is None:
            return
        told = notice.subject, _spellings(notice.language), state, notice.at
        if await self._store.told(channel, *told, work.session):
            await self._followed(work)

    async def _followed(self, work: UnitOfWork) -> None:
        await self._store.changed(work.session)
        now = self._clock.now()
        await self._notifications.look_again([each.value for each in Unfit], now, work.session)
        work.after_commit(self._due.set)


def _spellings(language: str) -> list[str]:
    """A provider's code of a language as it may have been registered: `en_us` is `en_US`."""
    language, _, region = language.lower().partition("_")
    regions = [f"_{region.upper()}", f"_{region.capitalize()}", f"_{region}"] if region else [""]
    return [language + each for each in dict.fromkeys(regions)]
