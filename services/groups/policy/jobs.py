"""The jobs of the policy: applying it, previewing one, and auditing all placements.

Each walks the placements in the order of their ids, which is that of registration, in batches of one
transaction each. Applying skips whoever was decided on by the same policy or a later one, so a member whom an
event has re-placed meanwhile is not touched, and a step that is taken twice says nothing twice.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID, uuid5

from services.groups.core.core import Core
from services.groups.core.domain import Placement
from services.groups.core.policies import FRESH_SECONDS
from services.groups.core.policy import DRIFT, Policy
from services.groups.core.seating.drafts import Review
from services.groups.core.seating.group_seats import archived
from services.groups.core.seating.service import ChangeRequest, units_of
from services.groups.policy.domain import (
    MAX_EXAMPLES,
    Drift,
    closable,
    counted,
    differences,
    drift_of,
    drift_of_group,
    merged,
)
from services.groups.policy.service import APPLY, AUDIT, BATCH, PREVIEW
from services.groups.policy.sketch import Sketch
from services.groups.policy.store import PolicyStore
from services.shared.contracts.base import Step
from services.shared.errors import PermanentError
from services.shared.identity import ALL_UNITS, Identity
from services.shared.jobs import Advance, Effect, Job, JobKind
from services.shared.loops import Pace, Turn, poll_loop, wait_first
from services.shared.messaging import UnitOfWork

STRAGGLERS: Final = timedelta(seconds=FRESH_SECONDS + 2)
"""After this time, no process goes by an earlier policy any more, unless it was frozen in a transaction."""
AUDIT_BATCH: Final = 1000
REST: Final = timedelta(minutes=1)
LOOP: Final = "policy-audits"
MOST_SKETCHES: Final = 4
_PERIODS: Final = UUID("3a1d6b44-9a53-5f0e-8a63-2d3f1c0f7b21")


class ApplyJob:
    """Phases: all members; empty groups that no rule uses any more; members whom a process with an earlier
    policy has placed while the job began."""

    def __init__(self, core: Core, store: PolicyStore) -> None:
        self._core = core
        self._store = store
        self.kind = JobKind(APPLY, self.step)

    async def step(self, job: Job) -> Effect:
        job.requested_by.check_all_units()

        async def effect(work: UnitOfWork) -> Advance:
            policy = await self._core.policies.newest(work.session)
            if policy.version != job.input["version"]:
                return _ended(job, {"followed_by": policy.version})
            phase, after = job.cursor or ("members", "")
            if phase == "groups":
                return await self._close(job, policy, after, work)
            if phase == "stragglers":
                return await self._catch_up(job, policy, after, work)
            found = await self._store.versions_after(after, BATCH, work.session)
            counts = await self._review(job, policy, found, work)
            more = len(found) == BATCH
            return Advance(
                cursor=["members", found[-1][0]] if more else ["groups", ""],
                done=len(found),
                total=await self._store.count_placements() if job.total is None else None,
                counts=counts,
            )

        return effect

    async def _review(
        self, job: Job, policy: Policy, found: Sequence[tuple[str, int]], work: UnitOfWork
    ) -> Counter[str]:
        again = job.input.get("again", False)
        requests = [
            ChangeRequest(Review(member_id), job.origin)
            for member_id, version in found
            if version < policy.version or again
        ]
        steps = await self._core.seating.apply(requests, work, policy) if requests else ()
        return _counts(steps) | Counter(members=len(found))

    async def _close(self, job: Job, policy: Policy, after: str, work: UnitOfWork) -> Advance:
        groups = await self._store.groups_after(after, BATCH, work.session)
        now = self._core.runtime.server_clock.now()
        steps = [archived(group, now) for group in groups if closable(group, policy)]
        await self._core.store.save_groups(
            [step.state for step in steps], {step.state.id for step in steps}, work.session
        )
        for step in steps:
            work.stage_all(step.events, job.origin)
        more = len(groups) == BATCH
        put_at = await self._store.put_at(policy.version, work.session)
        return Advance(
            cursor=["groups", groups[-1].id] if more else ["stragglers", ""],
            counts={"closes": len(steps)},
            rest_until=put_at + STRAGGLERS if put_at and not more else None,
        )

    async def _catch_up(self, job: Job, policy: Policy, after: str, work: UnitOfWork) -> Advance:
        before = policy.version
        found = await self._store.versions_after(after, BATCH, work.session, before=before) if before else []
        counts = await self._review(job, policy, found, work) if found else Counter()
        del counts["members"]
        if len(found) == BATCH:
            return Advance(cursor=["stragglers", found[-1][0]], counts=counts)
        await self._store.set_applied(policy.version, self._core.runtime.server_clock.now(), work.session)
        return replace(_ended(job, {}), counts=counts)


class PreviewJob:
    """A process keeps its sketch between steps; another one that takes the job over begins anew, and finds
    the same."""

    def __init__(self, core: Core, store: PolicyStore) -> None:
        self._core = core
        self._store = store
        self._sketches: dict[str, Sketch] = {}
        self.kind = JobKind(PREVIEW, self.step)

    async def step(self, job: Job) -> Effect:
        job.requested_by.check_all_units()
        found = await self._store.preview(job.id)
        if found is None:
            raise PermanentError("preview_expired", "the preview is not kept any more")
        preview, policy = found
        # Not kept while the step is in hand: one that fails begins anew, rather than miss a batch.
        sketch = self._sketches.pop(job.id, None)
        if sketch is None:
            sketch = Sketch(self._core, self._store, policy, preview.base_version)
        changes, done = await sketch.next(BATCH), sketch.counts["members"]

        async def effect(work: UnitOfWork) -> Advance:
            await self._store.save_differences(job.id, changes, preview.created_at, work.session)
            if sketch.done:
                made = replace(preview, done=True, counts=dict(sketch.counts))
                await self._store.save_preview(made, session=work.session)
            else:
                work.after_commit(partial(self._keep, job.id, sketch))
            return Advance(
                cursor=done,
                done=max(0, done - job.done),
                total=await self._store.count_placements() if job.total is None else None,
                finished=sketch.done,
                result=dict(sketch.counts),
            )

        return effect

    def _keep(self, job_id: str, sketch: Sketch) -> None:
        self._sketches[job_id] = sketch
        while len(self._sketches) > MOST_SKETCHES:
            del self._sketches[next(iter(self._sketches))]


class AuditJob:
    """Reads only. It waits while a policy is being applied: what is on its way is no drift."""

    def __init__(self, core: Core, store: PolicyStore) -> None:
        self._core = core
        self._store = store
        self.kind = JobKind(AUDIT, self.step)

    async def step(self, job: Job) -> Effect:
        job.requested_by.check_all_units()
        phase, after, examples = job.cursor or ("members", "", [])
        found: list[Drift] = []
        rows: Sequence[Any]
        if phase == "members":
            policy = await self._core.policies.newest()
            rows = placements = await self._store.placements_after(after, AUDIT_BATCH)
            last = placements[-1].member_id if placements else ""
            units = {unit for placement in placements for unit in units_of(placement)}
            parts = await self._core.runtime.successions.retired(units)
            found = [drift for placement in placements for drift in drift_of(placement, policy, parts)]
        else:
            rows = groups = await self._store.groups_after(after, AUDIT_BATCH)
            last = groups[-1].id if groups else ""
            members = await self._store.members_of([group.id for group in groups])
            found = [d for group in groups for d in drift_of_group(group, members.get(group.id, 0))]
        more = len(rows) == AUDIT_BATCH
        examples = [*examples, *(drift._asdict() for drift in found)][:MAX_EXAMPLES]

        async def effect(work: UnitOfWork) -> Advance:
            if await self._store.live_job(APPLY, work.session):
                return Advance(job.cursor, rest_until=self._core.runtime.server_clock.now() + REST)
            counts = Counter(dict.fromkeys(DRIFT, 0)) | Counter(drift.cause for drift in found)
            following = [phase, last, examples] if more else ["groups", "", examples]
            sums = {word: job.counts.get(word, 0) + counts[word] for word in DRIFT}
            return Advance(
                cursor=following,
                done=len(rows) if phase == "members" else 0,
                total=await self._store.count_placements() if job.total is None else None,
                counts={word: counts[word] for word in DRIFT},
                finished=phase == "groups" and not more,
                result={"drift": sums, "examples": examples},
            )

        return effect


class Audits:
    """Adds an audit in each period of the setting, one for all processes, and shows what the last one
    found."""

    def __init__(self, core: Core, store: PolicyStore) -> None:
        self._core = core
        self._store = store

    async def run(self, stop: asyncio.Event) -> None:
        every = min(self._core.settings.placement_audit_seconds / 4, 600.0)
        await wait_first(stop, timeout=every)  # not before a rolling restart is over
        await poll_loop(LOOP, self._turn, stop, Pace.every(every))

    async def _turn(self) -> Turn:
        now = self._core.runtime.server_clock.now()
        period = int(now.timestamp() // self._core.settings.placement_audit_seconds)
        everywhere = Identity("groups", frozenset(), ALL_UNITS)
        job_id = str(uuid5(_PERIODS, str(period)))
        await self._core.runtime.jobs.add(AUDIT, {}, everywhere, id=job_id)
        return Turn.NOTHING

    async def show(self) -> None:
        """Set the gauge to what the last audit found."""
        if (found := await self._store.last_result(AUDIT)) is not None:
            for cause in DRIFT:
                self._core.metrics.drift.labels(cause).set(found.get(cause, 0))


def _counts(steps: Sequence[Step[Placement]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for step in steps:
        by_rule: dict[str, Any] = {}
        for each in differences([step]):
            if each.member_id is None:
                counts.update(counted(each))
            else:
                before = by_rule.get(each.key)
                by_rule[each.key] = each if before is None else merged(before, each)
        for each in by_rule.values():
            counts.update(counted(each))
    del counts["messages"]
    return +counts


def _ended(job: Job, result: dict[str, Any]) -> Advance:
    return Advance(finished=True, result={"version": job.input["version"], **result, **job.counts})
