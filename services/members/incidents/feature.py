"""Incidents."""

from __future__ import annotations

from services.members.core.core import Core
from services.members.incidents.affected_job import AffectedJob
from services.members.incidents.api import incidents_router
from services.members.incidents.service import Incidents, clocks
from services.members.incidents.store import MIGRATIONS, IncidentStore
from services.shared.runtime import Feature


def incidents(core: Core) -> Feature:
    runtime = core.runtime
    store = IncidentStore(runtime.database)
    return Feature(
        routers=[incidents_router(Incidents(core, store), runtime.server_clock.now)],
        jobs=[AffectedJob(store).kind],
        slow_gauges=[clocks(store, runtime.server_clock, runtime.registry)],
        migrations=MIGRATIONS,
    )
