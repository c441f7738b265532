"""Requests about jobs: add, read, list, pause, resume, cancel; and the declaration of their collections."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from pymongo import IndexModel

from services.shared.clock import Clock, to_milliseconds
from services.shared.contracts.vocabulary import subtree
from services.shared.database import Collection, Database, Document, Migration, create
from services.shared.errors import ConflictError, NotFoundError
from services.shared.identity import Identity
from services.shared.ids import new_id
from services.shared.jobs.inputs import Inputs, create_inputs
from services.shared.jobs.job import ENDED, LIVE, STATES, Job, State, from_document, to_document
from services.shared.messaging import Origin, UnitOfWork

RETENTION = timedelta(days=30)
"""How long a job can be looked up after it has ended."""
CHANGE_MILLISECONDS = 5000
"""How long pause, resume and cancel wait for a step that is being committed."""


class JobEndedError(ConflictError):
    """A job that has ended cannot be paused, resumed or cancelled."""

    def __init__(self, state: State) -> None:
        super().__init__("job-ended", f"the job has ended: {state}", extra={"state": state})


class Jobs:
    """The jobs of one database. `clock` is MongoDB's, because processes must agree on what is due."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.rows: Collection = database["jobs"]
        self.inputs = Inputs(database, clock)
        self.clock = clock
        self.added = asyncio.Event()
        """Set when this process has added or resumed a job, so that its worker need not poll for it."""

    async def add(
        self,
        kind: str,
        input: Document,
        requested_by: Identity,
        *,
        due_at: datetime | None = None,
        id: str | None = None,
        work: UnitOfWork | None = None,
    ) -> Job:
        """Add a job that runs once it is due: now, unless told otherwise.

        With a given `id`, adding again changes nothing and answers the job that is there. With `work`, the
        job exists if and only if that transaction commits.

        Raises: `NotFoundError` for an identity without access to any unit; `PyMongoError`.
        """
        if requested_by.unit is None:
            raise NotFoundError
        now, origin = self.clock.now(), Origin.here()
        due = to_milliseconds(due_at) if due_at else now
        job = Job(
            id=id or new_id(),
            kind=kind,
            input=input,
            requested_by=requested_by,
            due_at=due,
            next_at=due,
            created_at=now,
            updated_at=now,
            correlation_id=origin.correlation_id,
            traceparent=origin.traceparent,
        )
        session = work.session if work else None
        row = to_document(job) | {"lease": None}
        if id is None:
            await self.rows.insert_one(row, session=session)
        else:
            # Not an insert whose failure is swallowed: a duplicate key would abort the caller's transaction.
            there = await self.rows.find_one_and_update(
                {"_id": id}, {"$setOnInsert": row}, upsert=True, return_document=True, session=session
            )
            job = from_document(there)
        if work:
            work.after_commit(self.added.set)
        else:
            self.added.set()
        return job

    async def get(self, id: str) -> Job | None:
        row = await self.rows.find_one({"_id": id})
        return from_document(row) if row else None

    async def page(
        self, *, kind: str | None, state: State | None, root: str | None, after: str | None, limit: int
    ) -> Sequence[Job]:
        """At most `limit` jobs, the newest first, that come after the id `after`.

        `root` limits them to units of that subtree; None shows all, also those of all units (`*`).
        """
        wanted: Document = {
            "kind": kind,
            "state": state,
            "requested_by.unit": subtree(root) if root else None,
            "_id": {"$lt": after} if after else None,
        }
        query = {name: value for name, value in wanted.items() if value is not None}
        rows = await self.rows.find(query).sort("_id", -1).limit(limit).to_list(None)
        return [from_document(row) for row in rows]

    async def pause(self, id: str) -> Job | None:
        """Let the job rest until it is resumed: a step in hand commits at once or never. None when there is
        no such job.

        Raises: `JobEndedError`; `PyMongoError`.
        """
        fields = {"state": "paused", "lease": None, "updated_at": self.clock.now()}
        return await self._change(id, LIVE, fields)

    async def resume(self, id: str) -> Job | None:
        """Let a paused job go on, at once or when it is due. None when there is no such job.

        Raises: `JobEndedError`; `PyMongoError`.
        """
        now = self.clock.now()
        # Due from now on and no earlier, or the pause would count as time without progress.
        due = {"$max": ["$due_at", now]}
        fields = {"state": "waiting", "due_at": due, "next_at": due, "updated_at": now}
        job = await self._change(id, ("paused",), fields)
        self.added.set()
        return job

    async def cancel(self, id: str) -> Job | None:
        """End the job where it is: what its steps have committed stays. None when there is no such job.

        Raises: `JobEndedError`; `PyMongoError`.
        """
        now = self.clock.now()
        fields = {"state": "cancelled", "lease": None, "finished_at": now, "updated_at": now}
        job = await self._change(id, (*LIVE, "paused"), fields)
        if job:
            await self.inputs.delete(id)
        return job

    async def _change(self, id: str, from_: Sequence[State], fields: Document) -> Job | None:
        """Set `fields` if the job is in one of the states `from_`; a job that has not ended is left alone
        otherwise."""
        row = await self.rows.find_one_and_update(
            {"_id": id, "state": {"$in": from_}},
            [{"$set": fields}],
            return_document=True,
            maxTimeMS=CHANGE_MILLISECONDS,
        )
        job = from_document(row) if row else await self.get(id)
        if row is None and job is not None and job.state in ENDED:
            raise JobEndedError(job.state)
        return job


async def _collections(database: Database) -> None:
    await create(
        database,
        "jobs",
        required={
            "kind": {"bsonType": "string"},
            "input": {"bsonType": "object"},
            "requested_by": {"bsonType": "object", "required": ["subject", "scopes", "unit"]},
            "state": {"enum": list(STATES)},
            "due_at": {"bsonType": "date"},
            "next_at": {"bsonType": "date"},
            "progress": {"bsonType": "object", "required": ["done", "total"]},
            "counts": {"bsonType": "object"},
            "attempts": {"bsonType": ["int", "long"]},
            "created_at": {"bsonType": "date"},
        },
        indexes=[
            IndexModel([("state", 1), ("kind", 1), ("next_at", 1)]),  # claims and counts
            IndexModel([("kind", 1), ("_id", -1)]),  # listings
            IndexModel("finished_at", expireAfterSeconds=int(RETENTION.total_seconds())),
        ],
    )
    await create_inputs(database)


MIGRATIONS: Final = (Migration("jobs-0001", "jobs and their inputs", _collections),)
