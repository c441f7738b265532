"""Jobs with an input that a request asks for, each once, however often the request is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from services.shared.database import Document
from services.shared.database.idempotency import IdempotentRequest, MadeIds
from services.shared.encryption import Vault
from services.shared.errors import NotFoundError
from services.shared.identity import Identity
from services.shared.ids import new_id
from services.shared.jobs.job import Job
from services.shared.jobs.store import Jobs
from services.shared.messaging import Outbox, UnitOfWork

Also = Callable[[str, UnitOfWork], Awaitable[None]]
"""Writes what belongs to the job of this id, in the transaction that adds it."""


async def _nothing(_: str, __: UnitOfWork) -> None: ...


class RequestedJobs:
    """`made` keeps the id of the job that each request has added."""

    def __init__(self, jobs: Jobs, outbox: Outbox, made: MadeIds) -> None:
        self._jobs = jobs
        self._outbox = outbox
        self._made = made

    async def add(
        self,
        kind: str,
        wanted: Document,
        content: AsyncIterator[bytes],
        caller: Identity,
        request: IdempotentRequest | None = None,
        *,
        vault: Vault | None = None,
        also: Also = _nothing,
    ) -> Job:
        """Add a job with the input `content`, sealed if there is a `vault`; or answer the one that the same
        request, sent to two processes at once, has added meanwhile.

        Raises: `KeyReusedError`; `NotFoundError` for a caller without a unit.
        """
        job_id = new_id()
        await self._jobs.inputs.store(job_id, content, vault)

        async def add(work: UnitOfWork) -> Job | None:
            if not await self._made.remember(request, job_id, work.session):
                return None
            await also(job_id, work)
            return await self._jobs.add(kind, wanted, caller, id=job_id, work=work)

        job = await self._outbox.transact(add)
        if job is None:
            await self._jobs.inputs.delete(job_id)
            job = await self.earlier(request)
            assert job is not None
        return job

    async def earlier(self, request: IdempotentRequest | None) -> Job | None:
        """The job that a repeated request added before.

        Raises: `KeyReusedError`; `NotFoundError` when that job is gone.
        """
        job_id = await self._made.earlier(request)
        if job_id is None:
            return None
        job = await self._jobs.get(job_id)
        if job is None:
            raise NotFoundError
        return job
