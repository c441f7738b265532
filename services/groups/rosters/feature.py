"""Rosters and drift."""

from __future__ import annotations

from services.groups.core.core import Core
from services.groups.rosters.api import rosters_router
from services.groups.rosters.gauges import drift_gauges
from services.groups.rosters.roster_job import RosterJob
from services.groups.rosters.seats import SeatFollower
from services.groups.rosters.service import RosterService
from services.groups.rosters.store import MIGRATIONS, RosterStore
from services.shared.database.idempotency import MadeIds
from services.shared.jobs import RequestedJobs
from services.shared.runtime import Feature


def rosters(core: Core) -> Feature:
    runtime = core.runtime
    store = RosterStore(runtime.database)
    made = MadeIds(runtime.database, runtime.clock)
    job = RosterJob(core, store, RequestedJobs(runtime.jobs, runtime.outbox, made))
    members = SeatFollower(core)
    core.on_seats_changed.append(members.seats_changed)
    core.on_erased.append(members.erased)
    service = RosterService(core, store, job)
    core.take_roster = service.take
    return Feature(
        routers=[rosters_router(service)],
        jobs=[job.kind],
        slow_gauges=[drift_gauges(core, store)],
        migrations=MIGRATIONS,
    )
