"""Placement: which group each member has a seat in, and who waits for a unit."""

from __future__ import annotations

from services.groups.core.core import Core
from services.groups.placement.api import placement_router
from services.groups.placement.handlers import subscriptions
from services.groups.placement.pending import LOOP, PendingPlacements
from services.groups.placement.service import PlacementService
from services.groups.placement.store import MIGRATIONS, PlacementStore
from services.shared.runtime import Feature, Learnt


def placement(core: Core) -> Feature:
    store = PlacementStore(core.runtime.database)
    service = PlacementService(core, store)
    return Feature(
        routers=[placement_router(service)],
        subscriptions=subscriptions(service, core.runtime.dead_letters),
        loops={LOOP: PendingPlacements(core, store).run},
        learnt=[Learnt("placements", store.forget_heard, store.heard)],
        migrations=MIGRATIONS,
    )
