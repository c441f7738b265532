"""Imports of members from files."""

from __future__ import annotations

from services.members.core.core import Core
from services.members.imports.api import MAX_IMPORT_BYTES, PATH, imports_router
from services.members.imports.apply_job import ApplyJob
from services.members.imports.pages import Pages
from services.members.imports.plan_job import PlanJob
from services.members.imports.service import Imports
from services.members.imports.store import MIGRATIONS, ImportStore
from services.shared.database.idempotency import MadeIds
from services.shared.runtime import Feature


def imports(core: Core) -> Feature:
    runtime = core.runtime
    store, pages = ImportStore(runtime.database), Pages(core.vault)
    made = MadeIds(runtime.database, runtime.clock)
    return Feature(
        routers=[imports_router(Imports(core, store, pages, made))],
        body_limits={PATH: MAX_IMPORT_BYTES},
        jobs=[PlanJob(core, store, pages).kind, ApplyJob(core, store, pages).kind],
        migrations=MIGRATIONS,
    )
