"""The tree of units: one at a time, or a whole tree from CSV, all of it or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

from services.groups.core.core import Core
from services.groups.core.domain import Unit
from services.groups.core.errors import invalid_import, level_does_not_fit, unknown_parent
from services.groups.tree.csv_rows import check_file, check_rows, parents_outside, read_rows
from services.groups.tree.domain import ImportResult, parents_first, result_of, upserted
from services.groups.tree.store import TreeStore
from services.shared.contracts.base import Step
from services.shared.contracts.vocabulary import level_of
from services.shared.errors import FieldError, NotFoundError
from services.shared.identity import Identity
from services.shared.messaging import Origin, UnitOfWork

TRANSACTION_UNITS: Final = 500


class TreeService:
    def __init__(self, core: Core, store: TreeStore) -> None:
        self._core = core
        self._store = store

    async def get(self, caller: Identity, code: str) -> Unit:
        """Raises: `NotFoundError`."""
        caller.check_access(code)
        unit = (await self._core.store.units([code])).get(code)
        if unit is None:
            raise NotFoundError
        return unit

    async def children(self, caller: Identity, code: str, after: str | None, limit: int) -> list[Unit]:
        """The units directly below, in the order of their codes.

        Raises: `NotFoundError` when there is no unit of that code.
        """
        await self.get(caller, code)
        return await self._store.children(code, after, limit)

    async def put(self, caller: Identity, wanted: Unit, origin: Origin) -> tuple[Unit, bool]:
        """Create or change one unit; the unit, and whether it is new.

        Raises: `NotFoundError` for a code outside the caller's units; `InvalidError` when the level does not
            fit the code; `ConflictError` when the parent is unknown.
        """
        caller.check_access(wanted.code)
        if level_of(wanted.code) != wanted.level:
            raise level_does_not_fit()
        if wanted.parent is not None and not await self._core.store.units([wanted.parent]):
            raise unknown_parent()
        [step] = await self._core.runtime.outbox.transact(partial(self._write, [wanted], origin))
        return step.state, bool(step.events) and step.state.version == 1

    async def load(self, units: Sequence[Unit], origin: Origin, *, dry_run: bool) -> ImportResult:
        """Create or change the units; a load that is cut off may be sent again.

        `units` are those of `check_import`.
        """
        result, cursor = ImportResult(), 0
        while cursor < len(units):
            if dry_run:
                done, cursor = await self.compare_next(units, cursor)
            else:
                done, cursor = await self._core.runtime.outbox.transact(
                    partial(self.write_next, units, cursor, origin)
                )
            result += done
        return result

    async def check_import(self, caller: Identity, text: str) -> list[Unit]:
        """The units of a CSV text in the order of writing, checked: parents are in the text or in the tree.

        The rows are parsed in a thread: 5,000 take about a tenth of a second.

        Raises: `InvalidError` with a pointer `/rows/<line>/<column>` for each bad field.
        """
        units, errors = await asyncio.to_thread(lambda: check_rows(read_rows(text)))
        if not units and not errors:
            raise invalid_import([FieldError("/rows", "there are no rows")])
        outside = parents_outside(units)
        known = await self._core.store.units(outside) if outside else {}
        errors = [*errors, *check_file(units, caller.can_access, outside - known.keys())]
        if errors:
            raise invalid_import(errors)
        return parents_first(units.values())

    async def write_next(
        self, units: Sequence[Unit], cursor: int, origin: Origin, work: UnitOfWork
    ) -> tuple[ImportResult, int]:
        """Write the next `TRANSACTION_UNITS` units after a cursor: what it did, and the cursor after it.

        The cursor counts the units of `check_import` that are done. The transaction is the caller's, who may
        keep the cursor in it.
        """
        batch = units[cursor : cursor + TRANSACTION_UNITS]
        return result_of(await self._write(batch, origin, work)), cursor + len(batch)

    async def compare_next(self, units: Sequence[Unit], cursor: int) -> tuple[ImportResult, int]:
        """As `write_next` would, and nothing is written."""
        batch = units[cursor : cursor + TRANSACTION_UNITS]
        known = await self._core.store.units([unit.code for unit in batch])
        return result_of([upserted(known.get(unit.code), unit) for unit in batch]), cursor + len(batch)

    async def _write(self, units: Sequence[Unit], origin: Origin, work: UnitOfWork) -> list[Step[Unit]]:
        known = await self._core.store.units([unit.code for unit in units], work.session)
        steps = [upserted(known.get(unit.code), unit) for unit in units]
        changed = [step.state for step in steps if step.events]
        await self._core.store.save_units(changed, known, work.session)
        for step in steps:
            work.stage_all(step.events, origin)
        work.after_commit(partial(self._tell, result_of(steps)))
        return steps

    def _tell(self, result: ImportResult) -> None:
        self._core.metrics.units.labels("created").inc(len(result.created))
        self._core.metrics.units.labels("updated").inc(len(result.updated))
        if result.created:
            self._core.new_units.set()
