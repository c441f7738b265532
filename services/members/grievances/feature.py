"""Grievances."""

from __future__ import annotations

from services.members.core.core import Core
from services.members.grievances.api import grievances_router
from services.members.grievances.service import Grievances, overdue
from services.members.grievances.store import MIGRATIONS, GrievanceStore
from services.shared.runtime import Feature


def grievances(core: Core) -> Feature:
    runtime = core.runtime
    store = GrievanceStore(runtime.database)
    return Feature(
        routers=[grievances_router(Grievances(core, store))],
        slow_gauges=[overdue(store, runtime.server_clock, runtime.registry)],
        migrations=MIGRATIONS,
    )
