"""The tree of units."""

from __future__ import annotations

from services.groups.core.core import Core
from services.groups.tree.api import IMPORTS_PATH, MAX_IMPORT_BYTES, tree_router
from services.groups.tree.import_job import UnitImportJob
from services.groups.tree.service import TreeService
from services.groups.tree.store import TreeStore
from services.shared.database.idempotency import MadeIds
from services.shared.runtime import Feature


def tree(core: Core) -> Feature:
    runtime = core.runtime
    store = TreeStore(runtime.database)
    service = TreeService(core, store)
    made = MadeIds(runtime.database, runtime.clock)
    imports = UnitImportJob(service, made, runtime.jobs, runtime.outbox)
    return Feature(
        routers=[tree_router(service, imports)],
        body_limits={IMPORTS_PATH: MAX_IMPORT_BYTES},
        jobs=[imports.kind],
    )
