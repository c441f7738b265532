"""Inputs too big for a job's document, such as a CSV of a million rows: one file per job, under the job's id,
in GridFS.

A file is stored before its job is added, and deleted when the job ends. Whatever is left over, because a
process died in between, is found by `sweep`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta

from gridfs.errors import NoFile
from pymongo import IndexModel

from services.shared.clock import Clock
from services.shared.database import Bucket, Collection, Database, bucket, create
from services.shared.jobs.job import ENDED
from services.shared.loops import Pace, Turn, poll_loop

BUCKET = "job_inputs"
ORPHANED_AFTER = timedelta(days=1)
"""A file without a job is kept this long: its upload may still be going on."""
SWEEP_SECONDS = 600.0


class Inputs:
    """The files of one database's jobs."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._files: Collection = database[f"{BUCKET}.files"]
        self._chunks: Collection = database[f"{BUCKET}.chunks"]
        self._jobs: Collection = database["jobs"]
        self._clock = clock

    @property
    def _bucket(self) -> Bucket:
        """Made for each use: motor ties a bucket to the event loop, and there is none when a service is
        composed."""
        return bucket(self._database, BUCKET)

    async def store(self, job_id: str, content: AsyncIterator[bytes]) -> int:
        """Keep the whole of `content` as the input of a job that is added next; answers its length in bytes.

        Raises: whatever `content` raises, after which nothing is kept; `FileExists` when the job has an input
        already.
        """
        file = self._bucket.open_upload_stream_with_id(job_id, job_id)
        length = 0
        try:
            async for piece in content:
                await file.write(piece)
                length += len(piece)
        except BaseException:
            await file.abort()
            raise
        await file.close()
        return length

    async def read(self, job_id: str, offset: int, size: int) -> bytes:
        """At most `size` bytes that begin at `offset`; `b""` at the end.

        Raises: `NoFile` when the job has no input.
        """
        file = await self._bucket.open_download_stream(job_id)
        file.seek(offset)
        return bytes(await file.read(size))

    async def delete(self, job_id: str) -> None:
        """Delete the job's input, if it has one."""
        with suppress(NoFile):
            await self._bucket.delete(job_id)

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep every ten minutes until `stop`."""

        async def sweep() -> Turn:
            await self.sweep()
            return Turn.NOTHING

        await poll_loop("job-inputs", sweep, stop, Pace.every(SWEEP_SECONDS))

    async def sweep(self) -> int:
        """Delete inputs of ended jobs, and inputs without a job for a day; answers how many."""
        # An upload that was cut off has chunks and no file; an empty input has a file and no chunks.
        ids = {*await self._chunks.distinct("files_id"), *await self._files.distinct("_id")}
        found = self._jobs.find({"_id": {"$in": list(ids)}}, {"state": 1})
        states = {row["_id"]: row["state"] async for row in found}
        swept = [i for i in ids if states.get(i) in ENDED or (i not in states and await self._is_old(i))]
        for job_id in swept:
            await self._files.delete_one({"_id": job_id})
            await self._chunks.delete_many({"files_id": job_id})
        return len(swept)

    async def _is_old(self, job_id: str) -> bool:
        """Whether it was begun more than a day ago; a chunk's id holds the time at which it was written."""
        chunk = await self._chunks.find_one({"files_id": job_id}, {"_id": 1}, sort=[("n", 1)])
        file = await self._files.find_one({"_id": job_id}, {"uploadDate": 1})
        begun = chunk["_id"].generation_time if chunk else file["uploadDate"] if file else self._clock.now()
        return bool(begun < self._clock.now() - ORPHANED_AFTER)


async def create_inputs(database: Database) -> None:
    """Create the bucket's collections with the indexes that GridFS would otherwise create at the first
    upload."""
    in_order = IndexModel([("files_id", 1), ("n", 1)], unique=True)
    await create(database, f"{BUCKET}.chunks", indexes=[in_order])
    await create(database, f"{BUCKET}.files", indexes=[IndexModel([("filename", 1), ("uploadDate", 1)])])
