"""Roles of members, and the officers of units."""

from __future__ import annotations

from services.members.core.core import Core
from services.members.roles.api import officers_router, roles_router
from services.members.roles.due import LOOP, DueRoles, overdue
from services.members.roles.service import Roles
from services.members.roles.store import MIGRATIONS, RoleStore
from services.shared.runtime import Feature


def roles(core: Core) -> Feature:
    runtime = core.runtime
    store = RoleStore(runtime.database)
    service = Roles(core, store, core.roles)
    return Feature(
        routers=[roles_router(service), officers_router(service)],
        loops={LOOP: DueRoles(service, store, runtime.server_clock).run},
        slow_gauges=[overdue(store, runtime.server_clock, runtime.registry)],
        migrations=MIGRATIONS,
    )
