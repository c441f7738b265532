"""Imports too long for a request: a job that writes the checked units step by step.

The units are kept beside the job as lines of JSON, in the order of writing; the cursor is the offset of the
next line.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from services.groups.tree.checked import unit_of_line
from services.groups.tree.domain import MAX_CHANGED_CODES, ImportResult
from services.groups.tree.service import TRANSACTION_UNITS, TreeService
from services.shared.database.idempotency import IdempotentRequest
from services.shared.errors import PermanentError
from services.shared.identity import Identity
from services.shared.jobs import Advance, Effect, Inputs, Job, JobKind, RequestedJobs
from services.shared.messaging import UnitOfWork

KIND: Final = "unit_import"
MAX_STEP_BYTES: Final = 128 * 1024
"""The lines of one step, `TRANSACTION_UNITS` of them if so many fit; a unit's longest line is under 2 kB."""


class UnitImportJob:
    def __init__(self, tree: TreeService, requested: RequestedJobs, inputs: Inputs) -> None:
        self._tree = tree
        self._requested = requested
        self._inputs = inputs
        self.kind = JobKind(KIND, self.step)

    async def add(
        self,
        caller: Identity,
        units: Sequence[bytes],
        *,
        dry_run: bool,
        request: IdempotentRequest | None = None,
    ) -> Job:
        """Add the job that writes `units`, the lines of `check_import`. Raises: as `RequestedJobs.add`."""
        wanted = {"dry_run": dry_run, "units": len(units)}
        return await self._requested.add(KIND, wanted, _lines(units), caller, request)

    async def earlier(self, request: IdempotentRequest | None) -> Job | None:
        """The job that a repeated request added before. Raises: as `RequestedJobs.earlier`."""
        return await self._requested.earlier(request)

    async def step(self, job: Job) -> Effect:
        """Write, or in a dry run compare, the next units after the cursor.

        Raises: `NotFoundError` for a unit outside those of who asked for the job; `PermanentError`.
        """
        cursor = job.cursor or {"offset": 0, "changed_codes": []}
        content = await self._inputs.read(job.id, cursor["offset"], MAX_STEP_BYTES)
        lines = content.split(b"\n")[:-1][:TRANSACTION_UNITS]
        units = [unit_of_line(line) for line in lines]
        if not units:
            raise PermanentError("input_incomplete", "the job's input ends before its last unit")
        for unit in units:
            job.requested_by.check_access(unit.code)
        offset = cursor["offset"] + sum(len(line) + 1 for line in lines)

        async def write(work: UnitOfWork) -> Advance:
            if job.input["dry_run"]:
                result = await self._tree.compare(units)
            else:
                result = await self._tree.write(units, job.origin, work)
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


async def _lines(units: Sequence[bytes]) -> AsyncIterator[bytes]:
    for start in range(0, len(units), TRANSACTION_UNITS):
        yield b"".join(units[start : start + TRANSACTION_UNITS])
