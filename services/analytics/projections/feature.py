"""Projections: every event becomes facts and figures, and these can be built anew beside the live ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial

from services.analytics.core.core import Core
from services.analytics.projections.api import projections_router
from services.analytics.projections.building import Building
from services.analytics.projections.catalogue import PROJECTIONS, catalogue
from services.analytics.projections.coverage import CoverageFold
from services.analytics.projections.metrics import ProjectionMetrics
from services.analytics.projections.migrations import MIGRATIONS
from services.analytics.projections.service import Projections
from services.analytics.projections.store import PointerStore
from services.shared.contracts.base import Event
from services.shared.database import Lease, Session
from services.shared.runtime import Feature, Learnt

LEASE_SECONDS = 10.0


def projections(core: Core) -> Feature:
    runtime = core.runtime
    core.store.register(PROJECTIONS)
    folds = catalogue(core)
    store = PointerStore(runtime.database)
    building = Building(
        folds,
        store,
        runtime.log,
        runtime.dead_letters,
        runtime.server_clock,
        group=runtime.settings.group,
        overlap=timedelta(seconds=core.settings.projection_overlap_seconds),
    )
    service = Projections(
        folds,
        core.pointers,
        store,
        building,
        runtime.jobs,
        runtime.outbox,
        runtime.server_clock,
        ProjectionMetrics(runtime.registry, list(folds.present)),
        Lease(runtime.database, "projections-settle", seconds=LEASE_SECONDS),
    )
    events: dict[type[Event], None] = {}
    for fold in folds.present.values():
        events |= dict.fromkeys(fold.events)
    return Feature(
        routers=[projections_router(service)],
        subscriptions={event: service.handler(event) for event in events},
        loops={"projections": service.tend, "projections-settle": service.settle},
        jobs=building.kinds,
        migrations=MIGRATIONS,
        learnt=[*_counting(core), _coverage(core)],
    )


def _counting(core: Core) -> list[Learnt]:
    return [
        Learnt(
            each.name,
            partial(core.store.forget_heard, each.name),
            partial(core.store.heard, each.name),
        )
        for each in PROJECTIONS
    ]


def _coverage(core: Core) -> Learnt:
    fold = CoverageFold(core.coverage)
    forget: Callable[[Sequence[str], Session], Awaitable[None]] = fold.forget
    known: Callable[[Sequence[str], Session], Awaitable[Mapping[str, int]]] = fold.heard
    return Learnt(fold.name, forget, known)
