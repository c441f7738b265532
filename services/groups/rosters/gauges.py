"""Gauges of drift, read once a minute."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from services.groups.core.core import Core
from services.groups.rosters.store import RosterStore

UNOBSERVED_AFTER: Final = timedelta(days=30)


def drift_gauges(core: Core, store: RosterStore) -> Callable[[], Awaitable[None]]:
    async def read_drift() -> None:
        for cause, members in (await store.totals()).items():
            core.metrics.drifting.labels(cause).set(members)
        now = core.runtime.server_clock.now()
        core.metrics.unobserved.set(await store.unobserved(now - UNOBSERVED_AFTER))

    return read_drift
