"""The core of analytics: the parts that its features are built on."""

from __future__ import annotations

from services.analytics.core.coverage.store import CoverageStore
from services.analytics.core.places import Pointers
from services.analytics.core.store import MIGRATIONS, CounterStore
from services.analytics.settings import AnalyticsSettings
from services.shared.runtime import Feature, Runtime


class Core:
    def __init__(self, runtime: Runtime, settings: AnalyticsSettings) -> None:
        self.runtime = runtime
        self.settings = settings
        self.pointers = Pointers(runtime.database)
        self.store = CounterStore(runtime.database, self.pointers)
        self.coverage = CoverageStore(runtime.database, self.pointers)

    def feature(self) -> Feature:
        return Feature(migrations=MIGRATIONS)
