"""Redrawing: members and roles follow the tree."""

from __future__ import annotations

from services.members.core.core import Core
from services.members.redrawing.api import redrawing_router
from services.members.redrawing.following import LOOP, Followers, MemberRedrawing, UnmappedGauge
from services.members.redrawing.service import Mappings
from services.members.redrawing.store import MIGRATIONS, RedrawingStore
from services.shared.contracts.groups import UnitSucceeded
from services.shared.runtime import Feature


def redrawing(core: Core) -> Feature:
    store = RedrawingStore(core.runtime.database)
    job, followers = MemberRedrawing(core, store), Followers(core, store)
    return Feature(
        routers=[redrawing_router(Mappings(core, store, job))],
        subscriptions={UnitSucceeded: followers.hear},
        loops={LOOP: followers.run},
        jobs=[job.kind],
        slow_gauges=[UnmappedGauge(store, core.runtime.registry).read],
        migrations=MIGRATIONS,
    )
