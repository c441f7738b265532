"""The tree of units."""

from __future__ import annotations

from services.groups.core.core import Core
from services.groups.tree.api import IMPORTS_PATH, MAX_IMPORT_BYTES, tree_router
from services.groups.tree.import_job import UnitImportJob
from services.groups.tree.service import TreeService
from services.groups.tree.store import TreeStore
from services.shared.runtime import Feature


def tree(core: Core) -> Feature:
    service = TreeService(core, TreeStore(core.runtime.database))
    imports = UnitImportJob(service, core.runtime.jobs)
    return Feature(
        routers=[tree_router(service, imports)],
        body_limits={IMPORTS_PATH: MAX_IMPORT_BYTES},
        jobs=[imports.kind],
    )
