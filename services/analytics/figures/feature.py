"""Figures for readers, over HTTP and on /metrics."""

from __future__ import annotations

from services.analytics.core.core import Core
from services.analytics.figures.api import figures_router
from services.analytics.figures.gauges import BusinessGauges
from services.analytics.figures.queries import FigureQueries
from services.shared.runtime import Feature


def figures(core: Core) -> Feature:
    queries = FigureQueries(core.store, core.coverage, core.runtime.clock)
    gauges = BusinessGauges(core.runtime.registry, core.store, seconds=core.settings.gauges_seconds)
    return Feature(routers=[figures_router(queries)], loops={"gauges": gauges.run})
