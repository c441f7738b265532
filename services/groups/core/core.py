"""The core that every feature of the groups service is built on."""

from __future__ import annotations

import asyncio

from services.groups.core.metrics import GroupsMetrics
from services.groups.core.policies import Policies
from services.groups.core.seating import store as seating_store
from services.groups.core.seating.service import SeatingService
from services.groups.core.seating.store import SeatStore
from services.groups.core.store import MIGRATIONS, CoreStore, PolicyVersions
from services.groups.settings import GroupsSettings
from services.shared.runtime import Feature, Runtime


class Core:
    """The runtime, settings, metrics and stores of the service, the policy in force, and seating.

    `new_units` is set when this process has created units: members who wait for them are placed at once.
    """

    def __init__(self, runtime: Runtime, settings: GroupsSettings) -> None:
        self.runtime = runtime
        self.settings = settings
        self.metrics = GroupsMetrics(runtime.registry)
        self.store = CoreStore(runtime.database)
        self.seats = SeatStore(runtime.database)
        self.policies = Policies(PolicyVersions(runtime.database), settings.group_capacity)
        self.new_units = asyncio.Event()
        self.seating = self.seating_in(self.seats)

    def seating_in(self, seats: SeatStore) -> SeatingService:
        """Seating with its groups and waiting lists in another store."""
        return SeatingService(self.store, seats, self.policies, self.metrics, self.runtime.server_clock)

    def feature(self) -> Feature:
        return Feature(migrations=(*MIGRATIONS, *seating_store.MIGRATIONS))
