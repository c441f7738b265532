"""The placement policy."""

from __future__ import annotations

from services.groups.core.core import Core
from services.groups.policy.api import policy_router
from services.groups.policy.jobs import LOOP, ApplyJob, AuditJob, Audits, PreviewJob
from services.groups.policy.service import PolicyService
from services.groups.policy.store import MIGRATIONS, PolicyStore
from services.shared.runtime import Feature


def policy(core: Core) -> Feature:
    store = PolicyStore(core.runtime.database)
    audits = Audits(core, store)
    return Feature(
        routers=[policy_router(PolicyService(core, store))],
        loops={LOOP: audits.run},
        jobs=[ApplyJob(core, store).kind, PreviewJob(core, store).kind, AuditJob(core, store).kind],
        slow_gauges=[audits.show],
        migrations=MIGRATIONS,
    )
