"""The table of contents of the analytics service: its features."""

from __future__ import annotations

from services.analytics.core.core import Core
from services.analytics.erasure.feature import erasure
from services.analytics.figures.feature import figures
from services.analytics.inclusion.feature import inclusion
from services.analytics.projections.feature import projections
from services.analytics.settings import AnalyticsSettings
from services.shared.clock import Clock
from services.shared.messaging import Broker
from services.shared.runtime import Runtime, Service, successions

DESCRIPTION = "What the events add up to: overview, time series and coverage of every unit."


def build(
    settings: AnalyticsSettings, *, clock: Clock | None = None, broker: Broker | None = None
) -> Service:
    return compose(Core(Runtime(settings, clock=clock, broker=broker), settings))


def compose(core: Core) -> Service:
    known = successions(core.runtime.successions)
    features = [core.feature(), known, erasure(core), projections(core), inclusion(core), figures(core)]
    return Service(core.runtime, features, description=DESCRIPTION)
