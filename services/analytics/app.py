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
from services.shared.eventkit.broker import Broker
from services.shared.kernel import Kernel


def build(
    settings: AnalyticsSettings, *, clock: Clock | None = None, broker: Broker | None = None
) -> FastAPI:
    kernel = Kernel(settings, clock=clock, broker=broker)
    store = Store(kernel.database)
    kernel.subscribe(subscriptions(Projector(store)))
    gauges = BusinessGauges(kernel.registry, store, seconds=settings.gauges_seconds)
    kernel.loop("gauges", gauges.run)
    return kernel.app(
        description="What the events add up to: overview, time series and coverage of every unit.",
        routers=[router],
        migrations=MIGRATIONS,
        state={"figures": Figures(store, kernel.clock)},
    )
