"""Projections: every event becomes facts and counters."""

from __future__ import annotations

from functools import partial

from services.analytics.core.core import Core
from services.analytics.projections.catalogue import PROJECTIONS
from services.analytics.projections.migrations import MIGRATIONS
from services.analytics.projections.projector import Projector
from services.shared.runtime import Feature, Learnt


def projections(core: Core) -> Feature:
    projector = Projector(core.store)
    return Feature(
        subscriptions={
            event: projector.handler(projection, mapping)
            for projection in PROJECTIONS
            for event, mapping in projection.mappings.items()
        },
        migrations=MIGRATIONS,
        learnt=[
            Learnt(
                projection.name,
                partial(core.store.forget_heard, projection.name),
                partial(core.store.heard, projection.name),
            )
            for projection in PROJECTIONS
        ],
    )
