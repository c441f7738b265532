"""The tree of units: one at a time, or a whole tree from CSV, which is checked as a whole and then written in
steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from services.groups.core.core import Core
from services.groups.core.domain import Unit
from services.groups.core.errors import (
    invalid_import,
    level_does_not_fit,
    levels_in_use,
    levels_named,
    redrawing_in_progress,
    unit_retired,
    unknown_parent,
)
from services.groups.core.policy import levels_it_names
from services.groups.tree.checked import CheckedFile, unit_of_line
from services.groups.tree.csv_rows import read_rows
from services.groups.tree.domain import ImportResult, renamed, result_of, upserted
from services.groups.tree.files import Files, ImportFile
from services.groups.tree.levels import level_of, levels_in_the_way
from services.groups.tree.store import LOOKUP_CODES, Filters, Tree, TreeStore
from services.shared.contracts.base import Step
from services.shared.errors import FieldError, NotFoundError
from services.shared.identity import Identity
from services.shared.jobs import ENDED
from services.shared.messaging import Origin, UnitOfWork

TRANSACTION_UNITS: Final = 500


class TreeService:
    def __init__(self, core: Core, store: TreeStore) -> None:
        self._core = core
        self._store = store
        self.files = Files()

    async def get(self, caller: Identity, code: str) -> Unit:
        """Raises: `NotFoundError`."""
        caller.check_access(code)
        unit = (await self._core.store.units([code])).get(code)
        if unit is None:
            raise NotFoundError
        return unit

    async def children(self, caller: Identity, code: str, after: str | None, limit: int) -> list[Unit]:
        """The live units directly below, in the order of their codes.

        Raises: `NotFoundError` when there is no unit of that code.
        """
        await self.get(caller, code)
        return await self._store.children(code, after, limit)

    async def find(
        self, caller: Identity, root: str | None, filters: Filters, after: str | None, limit: int
    ) -> list[Unit]:
        """Units of the subtree that match, in the order of their codes.

        Raises: `NotFoundError` for a unit outside the caller's.
        """
        return await self._store.find(caller.accessible_root(root), filters, after, limit)

    async def tree(self) -> Tree:
        return await self._store.tree()

    async def set_levels(
        self, caller: Identity, levels: Sequence[str], check: Callable[[int | None], None]
    ) -> Tree:
        """Raises: `NotFoundError` unless the caller has all units; `ConflictError` when there are units that
        would be of another level than they are, or the placement policy names a level that would be at
        another depth; what `check`, which gets the present version, raises."""
        caller.check_all_units()

        async def body(work: UnitOfWork) -> Tree:
            tree = await self._changing_tree(work)
            check(tree.levels_version)
            if list(levels) == list(tree.levels):
                return tree
            used = await self._core.store.levels_used(work.session)
            if in_the_way := levels_in_the_way(levels, used):
                raise levels_in_use(in_the_way)
            policy = await self._core.policies.newest(work.session)
            if policy.version and (named := levels_it_names(policy, levels)):
                raise levels_named(named)
            return await self._store.set_levels(levels, work.session)

        return await self._core.runtime.outbox.transact(body)

    async def put(
        self, caller: Identity, wanted: Unit, check: Callable[[int | None], None], origin: Origin
    ) -> tuple[Unit, bool]:
        """Create or change one unit; the unit, and whether it is new.

        `check` gets the present version, None for a unit that does not exist, and raises when it is not the
        one that the caller expects.

        Raises: `NotFoundError` for a code outside the caller's units; `InvalidError` when the level does not
            fit the code; `ConflictError` when the parent is unknown; what `check` raises.
        """
        caller.check_access(wanted.code)
        if level_of(wanted.code, (await self._store.tree()).levels) != wanted.level:
            raise level_does_not_fit()
        if wanted.parent is not None and not await self._is_live(wanted.parent):
            raise unknown_parent()

        async def body(work: UnitOfWork) -> Step[Unit]:
            known = await self._core.store.units([wanted.code], work.session)
            check(known[wanted.code].version if known else None)
            [step] = await self._write([wanted], origin, work)
            return step

        step = await self._core.runtime.outbox.transact(body)
        return step.state, bool(step.events) and step.state.version == 1

    async def load(self, lines: Sequence[bytes], origin: Origin, *, dry_run: bool) -> ImportResult:
        """Create or change the units; a load that is cut off may be sent again.

        `lines` are those of `check_import`.
        """
        result = ImportResult()
        for start in range(0, len(lines), TRANSACTION_UNITS):
            batch = [unit_of_line(line) for line in lines[start : start + TRANSACTION_UNITS]]
            if dry_run:
                result += await self.compare(batch)
            else:
                result += await self._core.runtime.outbox.transact(partial(self.write, batch, origin))
        return result

    async def check_import(self, caller: Identity, file: ImportFile) -> list[bytes]:
        """The units of a CSV file of `files` in the order of writing, each a line of JSON (`unit_line`).

        They are checked: parents are in the file or in the tree.

        All that grows with the file is done in threads, in turn with other callers' files: 5,000 rows take
        about a tenth of a second.

        Raises: `NotFoundError` for a caller without a unit; `UnicodeDecodeError`; `InvalidError` with a
            pointer `/rows/<line>/<column>` for each bad field.
        """
        self.check_may_import(caller)
        in_turn = self.files.in_turn
        async with self.files.checking(file):
            found = CheckedFile(read_rows(file.take()), (await self._store.tree()).levels)
            while await in_turn(found.check_next):
                pass
            if found.is_empty:
                raise invalid_import([FieldError("/rows", "there are no rows")])
            missing = await self.not_live(await in_turn(found.parents_outside))
            retired = await self._store.retired(list(found.codes.values()))
            await in_turn(partial(found.check_together, caller.can_access, missing, retired))
            if found.errors:
                raise invalid_import(found.errors, found.errors.total)
            return await in_turn(found.parents_first)

    def check_may_import(self, caller: Identity) -> None:
        """Ask this before the file is read. Raises: `NotFoundError` for a caller without a unit."""
        caller.accessible_root(None)

    async def not_live(self, codes: set[str]) -> set[str]:
        """The codes that are no live unit's."""
        left, waiting = set(codes), sorted(codes)
        for start in range(0, len(waiting), LOOKUP_CODES):
            units = await self._core.store.units(waiting[start : start + LOOKUP_CODES])
            left -= {code for code, unit in units.items() if unit.is_live}
        return left

    async def _is_live(self, code: str) -> bool:
        return not await self.not_live({code})

    async def write(self, units: Sequence[Unit], origin: Origin, work: UnitOfWork) -> ImportResult:
        """Create or change some units of `check_import`, at most `TRANSACTION_UNITS`, in the caller's
        transaction."""
        return result_of(await self._write(units, origin, work))

    async def compare(self, units: Sequence[Unit]) -> ImportResult:
        """As `write` would, and nothing is written."""
        known = await self._core.store.units([unit.code for unit in units])
        return result_of([upserted(known.get(unit.code), unit) for unit in units])

    async def _write(self, units: Sequence[Unit], origin: Origin, work: UnitOfWork) -> list[Step[Unit]]:
        """Raises: `ConflictError` when one of them is retired, or the tree is being redrawn."""
        known = await self._core.store.units([unit.code for unit in units], work.session)
        for unit in known.values():
            if unit.successors is not None:
                raise unit_retired(unit.successors)
        steps = [upserted(known.get(unit.code), unit) for unit in units]
        if any(step.events for step in steps):
            await self._changing_tree(work)
        await self.save(steps, known, origin, work)
        return steps

    async def _changing_tree(self, work: UnitOfWork) -> Tree:
        """The tree as one that this transaction changes, so that of two that meet, one sees the other."""
        tree = await self._store.touch(work.session)
        if tree.redrawing is not None and await self._is_redrawn(tree.redrawing_job):
            raise redrawing_in_progress()
        return tree

    async def _is_redrawn(self, job_id: str | None) -> bool:
        job = await self._core.runtime.jobs.get(job_id) if job_id else None
        return job is not None and job.state not in ENDED

    async def save(
        self, steps: Sequence[Step[Unit]], known: Mapping[str, Unit], origin: Origin, work: UnitOfWork
    ) -> None:
        """Write what has changed of units that are `known` as they were, and let their groups' names
        follow."""
        changed = [step.state for step in steps if step.events]
        await self._core.store.save_units(changed, known, work.session)
        for step in steps:
            work.stage_all(step.events, origin)
        await self._rename_groups(known, changed, origin, work)
        work.after_commit(partial(self._tell, result_of(steps)))

    async def _rename_groups(
        self, before: Mapping[str, Unit], after: Sequence[Unit], origin: Origin, work: UnitOfWork
    ) -> None:
        """Let the groups of units whose name changed follow."""
        units = {
            unit.code: unit for unit in after if unit.code in before and unit.name != before[unit.code].name
        }
        if not units:
            return
        now = self._core.runtime.clock.now()
        steps = [
            renamed(group, before[group.unit], units[group.unit], now)
            for group in await self._store.groups_of(list(units), work.session)
        ]
        changed = [step.state for step in steps if step.events]
        await self._core.store.save_groups(changed, {group.id for group in changed}, work.session)
        for step in steps:
            work.stage_all(step.events, origin)

    def _tell(self, result: ImportResult) -> None:
        self._core.metrics.units.labels("created").inc(len(result.created))
        self._core.metrics.units.labels("updated").inc(len(result.updated))
        if result.created:
            self._core.new_units.set()
