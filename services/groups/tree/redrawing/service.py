"""Comparisons of a whole tree: a file is checked, compared by a job, shown, and applied by another job."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import orjson

from services.groups.core.core import Core
from services.groups.core.domain import Unit
from services.groups.core.errors import (
    comparison_applied,
    comparison_not_ready,
    comparison_refused,
    comparison_stale,
    invalid_import,
    redrawing_in_progress,
)
from services.groups.core.store import UNITS
from services.groups.tree.checked import CheckedFile, unit_of_line
from services.groups.tree.csv_rows import read_rows
from services.groups.tree.files import ImportFile
from services.groups.tree.redrawing.domain import (
    Change,
    Kind,
    Wanted,
    check_successions,
    wanted_predecessors,
)
from services.groups.tree.redrawing.store import Comparison, RedrawingStore
from services.groups.tree.service import TreeService
from services.groups.tree.store import TreeStore
from services.shared.database.idempotency import IdempotentRequest
from services.shared.errors import FieldError, NotFoundError
from services.shared.identity import Identity
from services.shared.jobs import ENDED, Job, RequestedJobs
from services.shared.messaging import UnitOfWork

COMPARE: Final = "unit_comparison"
APPLY: Final = "redrawing"
_CHUNK: Final = 500


class Redrawings:
    def __init__(
        self,
        core: Core,
        tree: TreeService,
        trees: TreeStore,
        store: RedrawingStore,
        requested: RequestedJobs,
    ) -> None:
        self._core = core
        self._tree = tree
        self._trees = trees
        self._store = store
        self._requested = requested

    def check_may(self, caller: Identity, root: str | None) -> None:
        """Ask this before the file is read. Raises: `NotFoundError` for a unit outside the caller's."""
        caller.accessible_root(root)

    async def earlier(self, request: IdempotentRequest | None) -> Job | None:
        """The job that a repeated request added before. Raises: as `RequestedJobs.earlier`."""
        return await self._requested.earlier(request)

    async def check(self, caller: Identity, root: str | None, file: ImportFile) -> list[bytes]:
        """The units of the wanted tree below `root`, those above first, each a line of JSON.

        Raises: `NotFoundError` for a unit outside the caller's; `UnicodeDecodeError`; `InvalidError` with a
            pointer `/rows/<line>/<column>` for each bad field.
        """
        root = caller.accessible_root(root)
        in_turn = self._tree.files.in_turn
        async with self._tree.files.checking(file):
            levels = (await self._trees.tree()).levels
            found = CheckedFile(read_rows(file.take(), successions=True), levels)
            while await in_turn(found.check_next):
                pass
            if found.is_empty:
                raise invalid_import([FieldError("/rows", "there are no rows")])
            codes, successions = found.codes, found.successions
            parents = await in_turn(found.parents_outside)
            missing = await self._tree.not_live(parents)
            retired = await self._trees.retired(list(codes.values()))
            mine = caller if root is None else replace(caller, unit=root)
            await in_turn(partial(found.check_together, mine.can_access, missing, retired))
            named = {code for each in successions.values() for codes_ in each for code in codes_}
            named |= {codes[line] for line in successions}
            live = named - await self._tree.not_live(named)
            found.errors.add(await in_turn(partial(check_successions, codes, successions, root, live)))
            if found.errors:
                raise invalid_import(found.errors, found.errors.total)
            predecessors = await in_turn(partial(wanted_predecessors, codes, successions))
            gone = {codes[line] for line, each in successions.items() if each.successors}
            lines = await in_turn(found.parents_first)
            return await in_turn(partial(_lines, lines, predecessors, gone))

    async def compare(
        self,
        caller: Identity,
        root: str | None,
        lines: Sequence[bytes],
        request: IdempotentRequest | None = None,
    ) -> Job:
        """The job that compares; the comparison has its id. `lines` are those of `check`."""

        async def also(id_: str, work: UnitOfWork) -> None:
            tree, now = await self._trees.tree(work.session), self._core.runtime.clock.now()
            comparison = Comparison(
                id=id_,
                root=caller.accessible_root(root),
                by=caller.subject,
                state="comparing",
                job=id_,
                tree_version=tree.version,
                created_at=now,
                updated_at=now,
            )
            await self._store.add(comparison, work.session)

        wanted = {"units": len(lines)}
        return await self._requested.add(COMPARE, wanted, _pieces(lines), caller, request, also=also)

    async def get(self, caller: Identity, id_: str) -> Comparison:
        """Raises: `NotFoundError`."""
        comparison = await self._store.find(id_)
        if comparison is None:
            raise NotFoundError
        self._check_access(caller, comparison)
        return comparison

    async def page(self, caller: Identity, after: str | None, limit: int) -> list[Comparison]:
        """The newest first. Raises: `NotFoundError` for a caller without a unit."""
        return await self._store.page(caller.accessible_root(None), after, limit)

    async def changes(
        self, caller: Identity, id_: str, kind: str | None, after: int, limit: int
    ) -> dict[int, Change]:
        """Raises: `NotFoundError`."""
        await self.get(caller, id_)
        return await self._store.changes(id_, after, limit, kind)

    async def apply(self, caller: Identity, id_: str) -> Job:
        """The job that applies the comparison; the one that does so already.

        Raises: `NotFoundError`; `ConflictError` when it is not ready or applied, has changes that cannot be
            applied, the tree has changed since, or another one is being applied.
        """
        jobs = self._core.runtime.jobs
        comparison = await self.get(caller, id_)
        if comparison.state == "ready" and (joined := await self._joined_since(id_)):
            raise comparison_refused(joined)

        async def begin(work: UnitOfWork) -> Job:
            comparison = await self._store.find(id_, work.session)
            if comparison is None:
                raise NotFoundError
            self._check_access(caller, comparison)
            if comparison.state == "comparing":
                raise comparison_not_ready()
            if comparison.state == "applied":
                raise comparison_applied()
            if refused := comparison.counts.get("refused", 0):
                raise comparison_refused(refused)
            tree = await self._trees.tree(work.session)
            running = await jobs.get(tree.redrawing_job) if tree.redrawing_job else None
            if running is not None and running.state not in ENDED:
                if tree.redrawing == id_:
                    return running
                raise redrawing_in_progress()
            if tree.version != comparison.tree_version:
                raise comparison_stale()
            job = await jobs.add(APPLY, {"comparison": id_}, caller, work=work)
            # A write of the one document: of two that begin at once, the second sees the first.
            lock = {"redrawing": id_, "redrawing_job": job.id}
            await self._trees.change({"$set": lock}, work.session)
            fields = {"state": "applying", "apply_job": job.id, "updated_at": self._core.runtime.clock.now()}
            await self._store.change(id_, fields, {}, work.session)
            return job

        return await self._core.runtime.outbox.transact(begin)

    async def _joined_since(self, id_: str) -> int:
        """How many units vanish that nobody was in when they were compared, but somebody is now."""
        after, held = -1, 0
        while changes := await self._store.changes(id_, after, _CHUNK, Kind.VANISHED.value):
            held += len(await self._store.held_units([change.code for change in changes.values()]))
            after = max(changes)
        return held

    def _check_access(self, caller: Identity, comparison: Comparison) -> None:
        if comparison.root is None:
            caller.check_all_units()
        else:
            caller.check_access(comparison.root)


def line_of(wanted: Wanted) -> bytes:
    return orjson.dumps({"u": UNITS.encode(wanted.unit), "p": wanted.predecessors}) + b"\n"


def wanted_of(line: bytes) -> Wanted:
    row = orjson.loads(line)
    unit: Unit = UNITS.decode(row["u"])
    return Wanted(unit, tuple(row["p"]))


def _lines(units: Sequence[bytes], predecessors: dict[str, tuple[str, ...]], gone: set[str]) -> list[bytes]:
    found = []
    for line in units:
        unit = unit_of_line(line)
        if unit.code not in gone:
            found.append(line_of(Wanted(unit, predecessors.get(unit.code, ()))))
    return found


async def _pieces(lines: Sequence[bytes]) -> AsyncIterator[bytes]:
    for start in range(0, len(lines), _CHUNK):
        yield b"".join(lines[start : start + _CHUNK])
