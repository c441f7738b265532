"""The core of analytics: the parts that its features are built on."""

from __future__ import annotations

from services.analytics.core.store import MIGRATIONS, CounterStore
from services.analytics.settings import AnalyticsSettings
from services.shared.runtime import Feature, Runtime


class Core:
    def __init__(self, runtime: Runtime, settings: AnalyticsSettings) -> None:
        self.runtime = runtime
        self.settings = settings
        self.store = CounterStore(runtime.database)

    def feature(self) -> Feature:
        return Feature(migrations=MIGRATIONS)
