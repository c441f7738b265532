"""The composition of the groups service."""

from __future__ import annotations

from fastapi import FastAPI

from services.groups.api import IMPORTS_PATH, MAX_IMPORT_BYTES, router
from services.groups.groups import Groups
from services.groups.handlers import Handlers
from services.groups.metrics import GroupsMetrics
from services.groups.placing import Placing
from services.groups.settings import GroupsSettings
from services.groups.store import MIGRATIONS, Store
from services.groups.subscriptions import subscriptions, unit_of
from services.groups.units import Units
from services.groups.waiting_room import WaitingRoom
from services.shared.clock import Clock
from services.shared.messaging import Broker
from services.shared.runtime import Runtime


def build(settings: GroupsSettings, *, clock: Clock | None = None, broker: Broker | None = None) -> FastAPI:
    runtime = Runtime(settings, clock=clock, broker=broker)
    metrics = GroupsMetrics(runtime.registry)
    store = Store(runtime.database, runtime.clock)
    placing = Placing(store, metrics, capacity=settings.group_capacity)
    waiting_room = WaitingRoom(store, placing, runtime.outbox, metrics, seconds=settings.waiting_room_seconds)
    runtime.subscribe(subscriptions(Handlers(placing)), affinity=unit_of)
    runtime.loop("waiting-room", waiting_room.run)
    return runtime.app(
        description="The unit tree, the groups of each unit, and the place of every member.",
        routers=[router],
        migrations=MIGRATIONS,
        state={
            "store": store,
            "units": Units(store, runtime.outbox, metrics, on_new_units=waiting_room.hint),
            "groups": Groups(store, runtime.outbox, runtime.clock),
        },
        body_limits={IMPORTS_PATH: MAX_IMPORT_BYTES},
    )
