"""Composition root of the analytics service."""

from __future__ import annotations

from fastapi import FastAPI

from services.analytics.api import router
from services.analytics.figures import Figures
from services.analytics.handlers import Projector
from services.analytics.metrics import BusinessGauges
from services.analytics.settings import AnalyticsSettings
from services.analytics.store import MIGRATIONS, Store
from services.analytics.subscriptions import subscriptions
from services.shared.clock import Clock
from services.shared.messaging import Broker
from services.shared.runtime import Runtime


def build(
    settings: AnalyticsSettings, *, clock: Clock | None = None, broker: Broker | None = None
) -> FastAPI:
    runtime = Runtime(settings, clock=clock, broker=broker)
    store = Store(runtime.database)
    runtime.subscribe(subscriptions(Projector(store)))
    gauges = BusinessGauges(runtime.registry, store, seconds=settings.gauges_seconds)
    runtime.loop("gauges", gauges.run)
    return runtime.app(
        description="What the events add up to: overview, time series and coverage of every unit.",
        routers=[router],
        migrations=MIGRATIONS,
        state={"figures": Figures(store, runtime.clock)},
    )
