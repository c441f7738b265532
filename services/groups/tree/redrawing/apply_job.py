"""The job that applies a comparison: units are written, those above first; then others are retired, each in
one transaction with its successor record and the move of its groups; then the seats of those groups follow.

The members themselves belong to the members service, which hears of each succession.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from services.groups.core.core import Core
from services.groups.core.domain import Group
from services.groups.core.seating.drafts import Review
from services.groups.core.seating.service import ChangeRequest
from services.groups.tree.domain import upserted
from services.groups.tree.redrawing.domain import Change, Kind, handed_over, retired
from services.groups.tree.redrawing.service import APPLY
from services.groups.tree.redrawing.store import RedrawingStore
from services.groups.tree.service import TreeService
from services.groups.tree.store import TreeStore
from services.shared.contracts.base import Step
from services.shared.errors import NotFoundError, PermanentError
from services.shared.jobs import Advance, Effect, Job, JobKind
from services.shared.messaging import Origin, UnitOfWork

UNITS_A_STEP: Final = 100
SEATS_A_STEP: Final = 500
_START: Final = {"phase": "units", "n": -1, "after": "", "units": 0}


class ApplyJob:
    def __init__(self, core: Core, tree: TreeService, trees: TreeStore, store: RedrawingStore) -> None:
        self._core = core
        self._tree = tree
        self._trees = trees
        self._store = store
        self.kind = JobKind(APPLY, self.step)

    async def step(self, job: Job) -> Effect:
        """Raises: `NotFoundError` for a tree outside the units of who asked for the job; `PermanentError`
        when another comparison is being applied."""
        id_ = job.input["comparison"]
        comparison = await self._store.find(id_)
        if comparison is None:
            raise NotFoundError
        if comparison.root is None:
            job.requested_by.check_all_units()
        else:
            job.requested_by.check_access(comparison.root)
        # Not the job's own: a comparison whose job was cancelled goes on where that one was.
        cursor = dict(comparison.cursor or _START)
        total = sum(comparison.counts.get(kind.value, 0) for kind in Kind)
        if cursor["phase"] == "units":
            changes = await self._store.changes(id_, cursor["n"], UNITS_A_STEP)
        else:
            changes = await self._store.changes(id_, cursor["n"], UNITS_A_STEP, retiring=True)

        async def write(work: UnitOfWork) -> Advance:
            tree = await self._trees.touch(work.session)
            if tree.redrawing_job != job.id:
                raise PermanentError("not-applying", "another comparison was applied meanwhile")
            if cursor["phase"] == "units":
                after, counts = await self._units(id_, cursor, changes, job.origin, work)
            else:
                after, counts = await self._seats(cursor, changes, job.origin, work)
            finished = after["phase"] == "done"
            fields: dict[str, Any] = {
                "cursor": after,
                "tree_version": tree.version,
                "updated_at": self._core.runtime.clock.now(),
            }
            if finished:
                fields["state"] = "applied"
                await self._trees.change({"$unset": {"redrawing": "", "redrawing_job": ""}}, work.session)
            await self._store.change(id_, fields, {}, work.session)
            done = counts.get("written", 0) + counts.get("retired", 0)
            sums = {word: job.counts.get(word, 0) + counts.get(word, 0) for word in {**job.counts, **counts}}
            return Advance(
                cursor=after,
                done=done,
                total=total,
                counts=counts,
                finished=finished,
                result={"comparison": id_, **sums},
            )

        return write

    async def _units(
        self,
        id_: str,
        cursor: Mapping[str, Any],
        changes: Mapping[int, Change],
        origin: Origin,
        work: UnitOfWork,
    ) -> tuple[dict[str, Any], dict[str, int]]:
        if not changes:
            return {**cursor, "phase": "seats", "n": -1}, {}
        wanted = [change.wanted for change in changes.values() if change.wanted is not None]
        if wanted:
            known = await self._core.store.units([unit.code for unit in wanted], work.session)
            steps = [upserted(known.get(unit.code), unit) for unit in wanted]
            await self._tree.save(steps, known, origin, work)
        retiring = [change for change in changes.values() if change.wanted is None]
        counts = {"written": len(wanted), **await self._retire(id_, retiring, origin, work)}
        return {**cursor, "n": max(changes)}, {word: n for word, n in counts.items() if n}

    async def _retire(
        self, id_: str, changes: Sequence[Change], origin: Origin, work: UnitOfWork
    ) -> dict[str, int]:
        if not changes:
            return {}
        now = self._core.runtime.clock.now()
        units = await self._core.store.units([change.code for change in changes], work.session)
        steps = [
            retired(units[change.code], change.successors, id_, now)
            for change in changes
            if units[change.code].is_live
        ]
        groups = await self._hand_over(changes, origin, work)
        await self._core.store.save_units([step.state for step in steps], units, work.session)
        for step in steps:
            work.stage_all(step.events, origin)
        succeeded = {step.state.code: step.state.successors or () for step in steps}
        await self._core.runtime.successions.add(succeeded, work)
        work.after_commit(lambda: self._core.metrics.units.labels("retired").inc(len(steps)))
        return {"retired": len(steps), "groups": groups}

    async def _hand_over(self, changes: Sequence[Change], origin: Origin, work: UnitOfWork) -> int:
        """Let the groups of units that are retired be those of their first successor; how many."""
        heirs = {change.code: change.successors[0] for change in changes if change.successors}
        groups = await self._trees.groups_of(list(heirs), work.session) if heirs else []
        if not groups:
            return 0
        units = await self._core.store.units({*heirs, *heirs.values()}, work.session)
        names = {code: unit.name for code, unit in units.items()}
        taken = await self._store.last_ordinals(set(heirs.values()), work.session)
        by_heir: dict[str, list[Group]] = {}
        for group in groups:
            by_heir.setdefault(heirs[group.unit], []).append(group)
        now = self._core.runtime.clock.now()
        steps: list[Step[Group]] = []
        for heir, theirs in by_heir.items():
            steps += handed_over(theirs, units[heir], names, taken.get(heir, {}), now)
        await self._core.store.save_groups([s.state for s in steps], {g.id for g in groups}, work.session)
        for step in steps:
            work.stage_all(step.events, origin)
        return len(steps)

    async def _seats(
        self, cursor: Mapping[str, Any], changes: Mapping[int, Change], origin: Origin, work: UnitOfWork
    ) -> tuple[dict[str, Any], dict[str, int]]:
        """The seats in groups of the successors of some units, and what rosters of these groups showed. A
        group that a member's event has opened in a unit while it was being retired is handed over first."""
        if not changes:
            return {**cursor, "phase": "done"}, {}
        late = await self._hand_over(list(changes.values()), origin, work)
        heirs = {change.successors[0] for change in changes.values() if change.successors}
        theirs = await self._store.groups_in(heirs, work.session)
        found = await self._store.seated(theirs, cursor["after"], SEATS_A_STEP, work.session)
        # Nothing is said of whose move was heard before: that has been told already.
        requests = [ChangeRequest(Review(member_id, follows=True), origin) for member_id in found]
        steps = await self._core.seating.apply(requests, work) if requests else ()
        counts = Counter({"seats": sum(len(step.events) for step in steps), "groups": late})
        if len(found) < SEATS_A_STEP:
            # Those with a seat have followed with it.
            followed = await self._core.observations.follow(theirs, SEATS_A_STEP, work.session)
            if followed < SEATS_A_STEP:
                return {**cursor, "n": max(changes), "after": ""}, dict(counts)
        return {**cursor, "after": found[-1] if found else cursor["after"]}, dict(counts)
