"""The women connected."""

from __future__ import annotations

from services.analytics.core.core import Core
from services.analytics.inclusion.api import inclusion_router
from services.analytics.inclusion.queries import InclusionQueries
from services.shared.runtime import Feature


def inclusion(core: Core) -> Feature:
    queries = InclusionQueries(core.coverage, core.runtime.clock)
    return Feature(routers=[inclusion_router(queries)])
