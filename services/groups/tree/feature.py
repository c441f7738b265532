"""The tree of units."""

from __future__ import annotations

from services.groups.core.core import Core
from services.groups.tree.api import IMPORTS_PATH, MAX_IMPORT_BYTES, tree_router
from services.groups.tree.import_job import UnitImportJob
from services.groups.tree.redrawing.api import COMPARISONS_PATH, redrawing_router
from services.groups.tree.redrawing.apply_job import ApplyJob
from services.groups.tree.redrawing.compare_job import CompareJob
from services.groups.tree.redrawing.officers import Officers
from services.groups.tree.redrawing.service import Redrawings
from services.groups.tree.redrawing.store import MIGRATIONS as REDRAWING
from services.groups.tree.redrawing.store import RedrawingStore
from services.groups.tree.service import TreeService
from services.groups.tree.store import MIGRATIONS, TreeStore
from services.groups.tree.terms import LOOP, Terms
from services.shared.database.idempotency import MadeIds
from services.shared.jobs import RequestedJobs
from services.shared.runtime import Feature


def tree(core: Core) -> Feature:
    runtime = core.runtime
    store = TreeStore(runtime.database)
    service = TreeService(core, store)
    made = MadeIds(runtime.database, runtime.clock)
    requested = RequestedJobs(runtime.jobs, runtime.outbox, made)
    imports = UnitImportJob(service, requested, runtime.jobs.inputs)
    drawn = RedrawingStore(runtime.database)
    redrawings = Redrawings(core, service, store, drawn, requested)
    return Feature(
        # The more particular paths first.
        routers=[redrawing_router(service, redrawings), tree_router(service, imports)],
        subscriptions=Officers(drawn).subscriptions(),
        body_limits={IMPORTS_PATH: MAX_IMPORT_BYTES, COMPARISONS_PATH: MAX_IMPORT_BYTES},
        loops={LOOP: Terms(store).run},
        jobs=[
            imports.kind,
            CompareJob(core, drawn).kind,
            ApplyJob(core, service, store, drawn).kind,
        ],
        migrations=(*MIGRATIONS, *REDRAWING),
    )
