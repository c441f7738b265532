"""Inputs too big for a job's document, such as a CSV of a million rows: one file per job, under the job's id,
as GridFS keeps them (the GridFS specification of MongoDB: collections `.files` and `.chunks`).

They are written here chunk by chunk, because the driver's own upload holds up to 48 MB of a file in memory.

An input that holds personal data is sealed with the service's vault, piece by piece, so that any part of it
can be read without the rest.

A file is stored before its job is added, and deleted when the job ends. Whatever is left over, because a
process died in between, is found by `sweep`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

from gridfs.errors import NoFile
from pymongo import IndexModel

from services.shared.clock import Clock
from services.shared.database import Collection, Database, create
from services.shared.encryption import OVERHEAD, Vault
from services.shared.jobs.job import ENDED
from services.shared.loops import Pace, Turn, poll_loop

BUCKET = "job_inputs"
ORPHANED_AFTER = timedelta(days=1)
"""A file without a job is kept this long: its upload may still be going on."""
SWEEP_SECONDS = 600.0
PIECE_BYTES: Final = 64 * 1024
"""Length of the pieces that a sealed input is sealed in."""
_SEALED_BYTES: Final = PIECE_BYTES + OVERHEAD
_CHUNK_BYTES: Final = 255 * 1024


class Inputs:
    """The files of one database's jobs."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._files: Collection = database[f"{BUCKET}.files"]
        self._chunks: Collection = database[f"{BUCKET}.chunks"]
        self._jobs: Collection = database["jobs"]
        self._clock = clock

    async def store(self, job_id: str, content: AsyncIterator[bytes], vault: Vault | None = None) -> int:
        """Keep the whole of `content` as the input of a job that is added next and has none; answers its
        length in bytes. With `vault` it is sealed, and only read with that vault.

        Raises: whatever `content` raises, after which nothing is kept.
        """
        length = stored = n = 0

        async def kept() -> AsyncIterator[bytes]:
            nonlocal length
            piece_number = 0
            async for piece in content if vault is None else _in_pieces(content, PIECE_BYTES):
                length += len(piece)
                yield piece if vault is None else await vault.seal_bytes(f"{job_id}/{piece_number}", piece)
                piece_number += 1

        try:
            async for chunk in _in_pieces(kept(), _CHUNK_BYTES):
                await self._chunks.insert_one({"files_id": job_id, "n": n, "data": chunk})
                stored += len(chunk)
                n += 1
            file = {"_id": job_id, "filename": job_id, "length": stored, "chunkSize": _CHUNK_BYTES}
            await self._files.insert_one({**file, "uploadDate": self._clock.now()})
        except BaseException:
            await self.delete(job_id)
            raise
        return length

    async def read(self, job_id: str, offset: int, size: int, vault: Vault | None = None) -> bytes:
        """At most `size` bytes that begin at `offset`; `b""` at the end.

        Raises: `NoFile` when the job has no input; `EncryptionError` when a sealed one was tampered with.
        """
        if vault is None:
            return await self._stored(job_id, offset, size)
        first, last = offset // PIECE_BYTES, (offset + size - 1) // PIECE_BYTES
        sealed = await self._stored(job_id, first * _SEALED_BYTES, (last - first + 1) * _SEALED_BYTES)
        pieces = [sealed[at : at + _SEALED_BYTES] for at in range(0, len(sealed), _SEALED_BYTES)]
        opened = [await vault.open_bytes(f"{job_id}/{first + n}", piece) for n, piece in enumerate(pieces)]
        start = offset - first * PIECE_BYTES
        return b"".join(opened)[start : start + size]

    async def _stored(self, job_id: str, offset: int, size: int) -> bytes:
        """The bytes as stored. Not by a download stream: its cursor fetches up to 16 MB for each read."""
        file = await self._files.find_one({"_id": job_id}, {"chunkSize": 1})
        if file is None:
            raise NoFile(f"no input of job {job_id}")
        length: int = file["chunkSize"]
        first, last = offset // length, (offset + size - 1) // length
        query = {"files_id": job_id, "n": {"$gte": first, "$lte": last}}
        rows = await self._chunks.find(query, {"data": 1}).sort("n", 1).to_list(None)
        start = offset - first * length
        return b"".join(row["data"] for row in rows)[start : start + size]

    async def delete(self, job_id: str) -> None:
        """Delete the job's input, if it has one."""
        await self._files.delete_one({"_id": job_id})
        await self._chunks.delete_many({"files_id": job_id})

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
            await self.delete(job_id)
        return len(swept)

    async def _is_old(self, job_id: str) -> bool:
        """Whether it was begun more than a day ago; a chunk's id holds the time at which it was written."""
        chunk = await self._chunks.find_one({"files_id": job_id}, {"_id": 1}, sort=[("n", 1)])
        file = await self._files.find_one({"_id": job_id}, {"uploadDate": 1})
        begun = chunk["_id"].generation_time if chunk else file["uploadDate"] if file else self._clock.now()
        return bool(begun < self._clock.now() - ORPHANED_AFTER)


async def _in_pieces(content: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """The same bytes in pieces of that size; only the last may be shorter."""
    kept = bytearray()
    async for part in content:
        kept += part
        whole = len(kept) - len(kept) % size
        for at in range(0, whole, size):
            yield bytes(kept[at : at + size])
        del kept[:whole]
    if kept:
        yield bytes(kept)


async def create_inputs(database: Database) -> None:
    """Create the bucket's collections with the indexes that GridFS would otherwise create at the first
    upload."""
    in_order = IndexModel([("files_id", 1), ("n", 1)], unique=True)
    await create(database, f"{BUCKET}.chunks", indexes=[in_order])
    await create(database, f"{BUCKET}.files", indexes=[IndexModel([("filename", 1), ("uploadDate", 1)])])
