"""The directory of members."""

from __future__ import annotations

from services.members.core.core import Core
from services.members.directory.api import directory_router
from services.members.directory.freshness import Freshness
from services.members.directory.service import Directory
from services.members.directory.store import MIGRATIONS, DirectoryStore
from services.shared.runtime import Feature


def directory(core: Core) -> Feature:
    store = DirectoryStore(core.runtime.database)
    freshness = Freshness(store, core.runtime.clock, core.metrics)
    service = Directory(store, core.reader, freshness)
    return Feature(
        routers=[directory_router(service, core.runtime.clock)],
        loops={"search-fields": freshness.run},
        migrations=MIGRATIONS,
    )
