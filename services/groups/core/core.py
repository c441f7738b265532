"""The core that every feature of the groups service is built on."""

from __future__ import annotations

import asyncio

from services.groups.core.metrics import GroupsMetrics
from services.groups.core.store import MIGRATIONS, CoreStore
from services.groups.settings import GroupsSettings
from services.shared.runtime import Feature, Runtime


class Core:
    """The runtime, settings, metrics and store of the service.

    `new_units` is set when this process has created units: members who wait for them are placed at once.
    """

    def __init__(self, runtime: Runtime, settings: GroupsSettings) -> None:
        self.runtime = runtime
        self.settings = settings
        self.metrics = GroupsMetrics(runtime.registry)
        self.store = CoreStore(runtime.database)
        self.new_units = asyncio.Event()

    def feature(self) -> Feature:
        return Feature(migrations=MIGRATIONS)
