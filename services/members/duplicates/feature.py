"""Suspected duplicates."""

from __future__ import annotations

from services.members.core.core import Core
from services.members.duplicates.api import duplicates_router
from services.members.duplicates.looking import LOOP, Looking, gauges
from services.members.duplicates.service import Duplicates
from services.members.duplicates.store import MIGRATIONS, DuplicateStore
from services.shared.runtime import Feature


def duplicates(core: Core) -> Feature:
    runtime = core.runtime
    store = DuplicateStore(runtime.database)
    return Feature(
        routers=[duplicates_router(Duplicates(core, store))],
        loops={LOOP: Looking(store, runtime.server_clock).run},
        slow_gauges=[gauges(store, runtime.server_clock, runtime.registry)],
        migrations=MIGRATIONS,
    )
