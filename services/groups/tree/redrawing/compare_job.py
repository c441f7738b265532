"""The job that compares: it keeps the wanted tree, looks for what it changes, and for what it lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from services.groups.core.core import Core
from services.groups.tree.redrawing.domain import RETIRING, Change, Held, change_of, retirement
from services.groups.tree.redrawing.service import COMPARE, wanted_of
from services.groups.tree.redrawing.store import Comparison, RedrawingStore
from services.shared.errors import NotFoundError, PermanentError
from services.shared.jobs import Advance, Effect, Job, JobKind
from services.shared.messaging import UnitOfWork

BATCH: Final = 500
MAX_STEP_BYTES: Final = 256 * 1024


class CompareJob:
    """Its three passes: `rows` of the file, those `wanted`, and those `present`. `n` numbers the changes."""

    def __init__(self, core: Core, store: RedrawingStore) -> None:
        self._core = core
        self._store = store
        self.kind = JobKind(COMPARE, self.step)

    async def step(self, job: Job) -> Effect:
        comparison = await self._store.find(job.id)
        if comparison is None:
            raise NotFoundError
        cursor = job.cursor or {"phase": "rows", "offset": 0, "units": 0, "after": -1, "n": 0}
        match cursor["phase"]:
            case "rows":
                return await self._rows(job, cursor)
            case "wanted":
                return await self._wanted(job, comparison, cursor)
            case _:
                return await self._present(job, comparison, cursor)

    async def _rows(self, job: Job, cursor: dict[str, Any]) -> Effect:
        content = await self._core.runtime.jobs.inputs.read(job.id, cursor["offset"], MAX_STEP_BYTES)
        lines = content.split(b"\n")[:-1][:BATCH]
        if not lines:
            raise PermanentError("input_incomplete", "the job's input ends before its last unit")
        first = cursor["units"]
        wanted = {n: wanted_of(line) for n, line in enumerate(lines, first)}
        after = {
            **cursor,
            "offset": cursor["offset"] + sum(len(line) + 1 for line in lines),
            "units": first + len(lines),
        }
        if after["units"] >= job.input["units"]:
            after["phase"] = "wanted"

        async def write(work: UnitOfWork) -> Advance:
            await self._store.add_wanted(job.id, wanted, self._core.runtime.clock.now(), work.session)
            return Advance(cursor=after)

        return write

    async def _wanted(self, job: Job, comparison: Comparison, cursor: dict[str, Any]) -> Effect:
        rows = await self._store.wanted(job.id, cursor["after"], BATCH)
        known = await self._core.store.units([each.unit.code for each in rows.values()])
        found = (change_of(known.get(each.unit.code), each) for each in rows.values())
        changes = [change for change in found if change is not None]
        unchanged = len(rows) - len(changes)
        last = max(rows, default=cursor["after"])
        passed = len(rows) < BATCH
        after = {**cursor, "after": "" if passed else last, "n": cursor["n"] + len(changes)}
        if passed:
            after["phase"] = "present"
        counts = {"unchanged": unchanged}
        return self._write(job, changes, cursor["n"], after, counts, finished=False)

    async def _present(self, job: Job, comparison: Comparison, cursor: dict[str, Any]) -> Effect:
        units = await self._store.live(comparison.root, cursor["after"], BATCH)
        codes = [unit.code for unit in units]
        kept = await self._store.kept(job.id, codes)
        going = [code for code in codes if code not in kept]
        heirs = await self._store.heirs(job.id, going) if going else {}
        held = await self._store.held(going) if going else {}
        changes = [retirement(code, heirs.get(code, ()), held.get(code, Held())) for code in going]
        finished = len(units) < BATCH
        after = {**cursor, "after": codes[-1] if codes else cursor["after"], "n": cursor["n"] + len(changes)}
        return self._write(job, changes, cursor["n"], after, {}, finished=finished)

    def _write(
        self,
        job: Job,
        changes: Sequence[Change],
        first: int,
        cursor: Mapping[str, Any],
        more: Mapping[str, int],
        *,
        finished: bool,
    ) -> Effect:
        counts = counted(changes) | dict(more)

        async def write(work: UnitOfWork) -> Advance:
            now = self._core.runtime.clock.now()
            await self._store.add_changes(job.id, dict(enumerate(changes, first)), now, work.session)
            fields: dict[str, Any] = {"updated_at": now}
            if finished:
                fields["state"] = "ready"
            await self._store.change(job.id, fields, counts, work.session)
            sums = {word: job.counts.get(word, 0) + counts.get(word, 0) for word in {**job.counts, **counts}}
            return Advance(
                cursor=cursor,
                done=len(changes) + more.get("unchanged", 0),
                counts=counts,
                finished=finished,
                result={"comparison": job.id, **sums},
            )

        return write


def counted(changes: Sequence[Change]) -> dict[str, int]:
    """Changes by kind; how many are refused; what the units that are retired hold, and how many of their
    members nothing says where they belong (`unmapped`)."""
    counts = Counter([change.kind for change in changes])
    for change in changes:
        counts["refused"] += change.refused is not None
        if change.kind in RETIRING:
            counts["members"] += change.held.members
            counts["groups"] += change.held.groups
            counts["officers"] += change.held.officers
            counts["unmapped"] += change.held.members if len(change.successors) > 1 else 0
    return {word: n for word, n in counts.items() if n}
