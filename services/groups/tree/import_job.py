"""Imports too long for a request: a job that writes the checked units step by step.

The units are kept beside the job as lines of JSON, in the order of writing; the cursor is the offset of the
next line.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import orjson

from services.groups.core.domain import Unit
from services.groups.core.store import UNITS
from services.groups.tree.domain import MAX_CHANGED_CODES, ImportResult
from services.groups.tree.service import TRANSACTION_UNITS, TreeService
from services.shared.identity import Identity
from services.shared.ids import new_id
from services.shared.jobs import Advance, Effect, Job, JobKind, Jobs
from services.shared.messaging import UnitOfWork

KIND: Final = "unit_import"
MAX_STEP_BYTES: Final = 1024 * 1024
"""More than the lines of one step: a unit's longest line is under 2 kB."""


class UnitImportJob:
    def __init__(self, tree: TreeService, jobs: Jobs) -> None:
        self._tree = tree
        self._jobs = jobs
        self.kind = JobKind(KIND, self.step)

    async def add(self, caller: Identity, units: Sequence[Unit], *, dry_run: bool) -> Job:
        """Add the job that writes `units`, which are checked and in the order of writing."""
        job_id = new_id()
        await self._jobs.inputs.store(job_id, _lines(units))
        work = {"dry_run": dry_run, "units": len(units)}
        return await self._jobs.add(KIND, work, caller, id=job_id)

    async def step(self, job: Job) -> Effect:
        """Write, or in a dry run compare, the next units after the cursor."""
        cursor = job.cursor or {"offset": 0, "changed_codes": []}
        content = await self._jobs.inputs.read(job.id, cursor["offset"], MAX_STEP_BYTES)
        lines = content.split(b"\n")[:-1][:TRANSACTION_UNITS]
        units = [UNITS.decode(orjson.loads(line)) for line in lines]
        offset = cursor["offset"] + sum(len(line) + 1 for line in lines)

        async def write(work: UnitOfWork) -> Advance:
            if job.input["dry_run"]:
                result, _ = await self._tree.compare_next(units, 0)
            else:
                result, _ = await self._tree.write_next(units, 0, job.origin, work)
            codes = [*cursor["changed_codes"], *result.changed_codes][:MAX_CHANGED_CODES]
            return _advance(job, result, len(units), {"offset": offset, "changed_codes": codes})

        return write


def _advance(job: Job, result: ImportResult, done: int, cursor: dict[str, Any]) -> Advance:
    counts = {
        "created": len(result.created),
        "updated": len(result.updated),
        "unchanged": result.unchanged,
    }
    finished = job.done + done >= job.input["units"]
    sums = {word: job.counts.get(word, 0) + n for word, n in counts.items()}
    return Advance(
        cursor=cursor,
        done=done,
        total=job.input["units"],
        counts=counts,
        finished=finished,
        result={"dry_run": job.input["dry_run"], **sums, "changed_codes": cursor["changed_codes"]},
    )


async def _lines(units: Sequence[Unit]) -> AsyncIterator[bytes]:
    for start in range(0, len(units), TRANSACTION_UNITS):
        rows = (UNITS.encode(unit) for unit in units[start : start + TRANSACTION_UNITS])
        yield b"".join(orjson.dumps(row) + b"\n" for row in rows)
