"""The placement policy as requests ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from services.groups.core.core import Core
from services.groups.core.errors import invalid_policy, policy_being_applied
from services.groups.core.policy import Policy, applied, faults
from services.groups.policy.domain import Difference, Preview, cap_faults, same_rules
from services.groups.policy.sketch import Sketch
from services.groups.policy.store import PolicyStore
from services.shared.database import Session
from services.shared.errors import FieldError, NotFoundError, StaleVersionError
from services.shared.identity import Identity
from services.shared.ids import new_id
from services.shared.jobs import Job
from services.shared.messaging import Origin, UnitOfWork

APPLY: Final = "policy_apply"
PREVIEW: Final = "policy_preview"
AUDIT: Final = "policy_audit"
BATCH: Final = 500
"""Members of one step; a preview takes them in the same batches as the job that applies."""
AT_ONCE: Final = 2 * BATCH
"""Members that a request for a preview looks through by itself."""


class PolicyService:
    def __init__(self, core: Core, store: PolicyStore) -> None:
        self._core = core
        self._store = store

    async def current(self) -> tuple[Policy, str | None]:
        """The policy in force, and the job that applies it."""
        policy = await self._core.policies.newest()
        return policy, await self._store.job_of(policy.version)

    async def put(
        self, caller: Identity, wanted: Policy, expected_version: int, origin: Origin
    ) -> tuple[Policy, Job | None]:
        """Put a policy in force: from now on events are answered by it, and a job re-places those who were
        placed by an earlier one. No job if it is in force already.

        Raises: `NotFoundError` for a caller without all units; `InvalidError`; `StaleVersionError`;
            `ConflictError` while another is being applied.
        """
        caller.check_all_units()
        wanted = await self._of_the_tree(wanted)
        runtime = self._core.runtime
        now = runtime.server_clock.now()

        async def body(work: UnitOfWork) -> tuple[Policy, Job | None]:
            newest = await self._core.policies.newest(work.session)
            if newest.version != expected_version:
                raise StaleVersionError
            if same_rules(newest, wanted):
                return newest, None
            await self._check_idle(work.session)
            if await self._core.policies.hold_levels(work.session) != wanted.tree:
                raise StaleVersionError
            _check(cap_faults(wanted.kinds, await self._store.fullest(work.session)))
            policy = replace(wanted, version=newest.version + 1)
            job = await runtime.jobs.add(APPLY, {"version": policy.version}, caller, work=work)
            await self._store.add(policy, job.id, now, work.session)
            work.stage_all([applied(policy)], origin)
            work.after_commit(partial(self._core.policies.put_in_force, policy))
            return policy, job

        return await runtime.outbox.transact(body)

    async def apply_again(self, caller: Identity) -> Job:
        """Apply the policy in force to whoever does not follow it: after a cancelled job, or drift.

        Raises: `NotFoundError`; `ConflictError` while it is being applied.
        """
        caller.check_all_units()
        runtime = self._core.runtime

        async def body(work: UnitOfWork) -> Job:
            policy = await self._core.policies.newest(work.session)
            await self._check_idle(work.session)
            wanted = {"version": policy.version, "again": True}
            job = await runtime.jobs.add(APPLY, wanted, caller, work=work)
            await self._store.set_job(policy.version, job.id, work.session)
            return job

        return await runtime.outbox.transact(body)

    async def audit(self, caller: Identity, job_id: str | None = None) -> Job:
        """Compare all placements with the policy. Raises: `NotFoundError` for a caller without all units."""
        caller.check_all_units()
        return await self._core.runtime.jobs.add(AUDIT, {}, caller, id=job_id)

    async def preview(self, caller: Identity, wanted: Policy) -> tuple[Preview, Job | None]:
        """Compare a policy with all placements: at once if they are few, by a job otherwise.

        Raises: `NotFoundError` for a caller without all units; `InvalidError`.
        """
        caller.check_all_units()
        wanted = await self._of_the_tree(wanted)
        _check(cap_faults(wanted.kinds, await self._store.fullest()))
        runtime = self._core.runtime
        base = await self._core.policies.newest()
        preview = Preview(new_id(), base.version, runtime.server_clock.now())
        if await self._store.count_placements() <= AT_ONCE:
            sketch = Sketch(self._core, self._store, wanted, base.version)
            while not sketch.done:
                await self._store.save_differences(preview.id, await sketch.next(BATCH), preview.created_at)
            preview = replace(preview, done=True, counts=dict(sketch.counts))
            await self._store.save_preview(preview, wanted)
            return preview, None
        preview = replace(preview, job_id=preview.id)
        await self._store.save_preview(preview, wanted)
        return preview, await runtime.jobs.add(PREVIEW, {}, caller, id=preview.id)

    async def previewed(self, caller: Identity, id_: str) -> Preview:
        """Raises: `NotFoundError`."""
        caller.check_all_units()
        found = await self._store.preview(id_)
        if found is None:
            raise NotFoundError
        return found[0]

    async def differences(self, caller: Identity, id_: str, after: str, limit: int) -> Sequence[Difference]:
        """In the order of their keys: groups first. Raises: `NotFoundError`."""
        await self.previewed(caller, id_)
        return await self._store.differences(id_, after, limit)

    async def _of_the_tree(self, wanted: Policy) -> Policy:
        """The policy with the levels that the tree has. Raises: `InvalidError`."""
        policy = replace(wanted, tree=await self._core.policies.levels())
        _check(faults(policy))
        return policy

    async def _check_idle(self, session: Session) -> None:
        if job_id := await self._store.live_job(APPLY, session):
            raise policy_being_applied(job_id)


def _check(found: Sequence[tuple[str, str]]) -> None:
    if found:
        raise invalid_policy([FieldError(path, detail) for path, detail in found])
