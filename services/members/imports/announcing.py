"""The budget of welcomes: imports of all processes together welcome so many new members an hour.

A page is written whole, and then no page that welcomes somebody until the hour's share of its members is
over.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from services.members.imports.domain import PlannedRow, Terms
from services.members.imports.reading import SLICE_ROWS
from services.members.imports.store import ImportStore
from services.shared.clock import Clock
from services.shared.contracts.vocabulary import Purpose
from services.shared.database import Session

PAGE_SECONDS: Final = 60
"""Pages that welcome people are cut so short that the budget keeps the next one waiting for about this long.
"""


class Announcing:
    def __init__(self, store: ImportStore, clock: Clock, per_hour: int) -> None:
        self._store = store
        self._clock = clock
        self._per_hour = per_hour

    def page_rows(self, terms: Terms) -> int:
        """The most rows that a page of the plan may have."""
        if not terms.announce:
            return SLICE_ROWS
        return max(1, min(SLICE_ROWS, int(self._per_hour * PAGE_SECONDS / 3600)))

    def takes(self, document: Mapping[str, Any]) -> timedelta:
        """The time that an import takes to welcome those whom its plan would, if no other import does."""
        return self._share(document.get("welcomed", 0))

    async def spent_until(self) -> datetime | None:
        """Until when nobody is to be welcomed; None if the budget allows it now."""
        until = await self._store.welcoming_from()
        return until if until is not None and until > self._clock.now() else None

    async def spend(self, count: int, session: Session) -> None:
        """Take `count` welcomes from the budget, in the transaction that causes them.

        Raises: `TransientError` when another import has spent it meanwhile.
        """
        if count:
            await self._store.welcome(self._clock.now(), self._share(count), session)

    def _share(self, count: int) -> timedelta:
        return timedelta(hours=count / self._per_hour)


def is_welcomed(row: PlannedRow, terms: Terms) -> bool:
    """Whether a new member of this row is announced, and has agreed to be written to."""
    agreed = any(purpose == Purpose.WELCOME.value for purpose, _ in terms.consents)
    return not row.version and terms.announce and agreed and row.consent is not False
