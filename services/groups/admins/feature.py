"""Group admins and their page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from services.groups.admins.api import admins_router
from services.groups.admins.handlers import subscriptions
from services.groups.admins.page.api import AdminPage, page_router
from services.groups.admins.page.tokens import PageTokens
from services.groups.admins.service import AdminService
from services.groups.admins.store import MIGRATIONS, AdminStore
from services.groups.core.core import Core
from services.shared.runtime import Feature


def admins(core: Core) -> Feature:
    settings = core.settings
    store = AdminStore(core.runtime.database)
    service = AdminService(core, store)
    tokens = PageTokens(settings.master_keys, core.runtime.server_clock)
    core.on_erased.append(service.erased)
    core.on_seats_changed.append(service.seats_changed)
    return Feature(
        routers=[
            admins_router(service, tokens, settings.page_base_url),
            page_router(AdminPage(core, service, tokens)),
        ],
        subscriptions=subscriptions(service, store),
        slow_gauges=[gaps_gauge(core, store)],
        migrations=MIGRATIONS,
    )


def gaps_gauge(core: Core, store: AdminStore) -> Callable[[], Awaitable[None]]:
    async def read_gaps() -> None:
        for problem, groups in (await store.count_gaps()).items():
            core.metrics.gaps.labels(problem).set(groups)

    return read_gaps
