"""Imports of members from files."""

from __future__ import annotations

from services.members.core.core import Core
from services.members.imports.announcing import Announcing
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
    announcing = Announcing(store, runtime.server_clock, core.settings.imports_welcome_per_hour)
    made = MadeIds(runtime.database, runtime.clock)
    return Feature(
        routers=[imports_router(Imports(core, store, pages, announcing, made))],
        body_limits={PATH: MAX_IMPORT_BYTES},
        jobs=[
            PlanJob(core, store, pages, announcing).kind,
            ApplyJob(core, store, pages, announcing).kind,
        ],
        migrations=MIGRATIONS,
    )
