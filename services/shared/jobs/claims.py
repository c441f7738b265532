"""Claims: a random token in the job's document and a lease that ends by MongoDB's clock (`$$NOW`).

A step commits together with an update of its job that matches only while the claim holds: the same token,
still `running`, the lease not over. A worker that was frozen beyond its lease therefore commits nothing,
whether or not another has claimed the job meanwhile, and no clock of a process is trusted with that. (Frozen
in the instant between that update and its commit, it may still commit: the update locks the document, so
nobody can have claimed the job.)
"""

from __future__ import annotations

from collections.abc import Collection as Some
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pymongo.errors import ExecutionTimeout
from pymongo.write_concern import WriteConcern

from services.shared.clock import Clock
from services.shared.database import Collection, Document, Session
from services.shared.ids import new_id
from services.shared.jobs.job import LIVE, Advance, Job, State, advanced, from_document, to_document

EPOCH = datetime.fromtimestamp(0, UTC)
UNCLAIMED: Document = {"$expr": {"$lt": [{"$ifNull": ["$lease.expires_at", EPOCH]}, "$$NOW"]}}
"""Matches a job that nobody has claimed, or whose claim has run out."""
STEPPED = (
    *("state", "cursor", "progress", "counts", "steps", "attempts", "result"),
    *("updated_at", "progressed_at", "finished_at", "due_at", "next_at"),
)
"""Fields that a step may change, beside the lease."""
CANDIDATES = 16
"""Jobs that are tried in one look before giving up until the next."""
CLAIM_MILLISECONDS = 250
"""How long a claim waits for one job.

A process that died in a commit leaves its job's document locked until the server ends the transaction, which
takes up to a minute; other jobs must not wait for that.
"""


class ClaimLostError(Exception):
    """The job is no longer as this worker knows it, so the step in hand was not committed.

    Its lease ran out, it was paused or cancelled, or the step had been committed before and the reply was
    lost.
    """


@dataclass(frozen=True, slots=True)
class Claim:
    """A job in the hands of this worker, under a random `token` that no other claim has."""

    job: Job
    token: str

    def held(self) -> Document:
        """Matches the job's document while the claim holds."""
        return {**self.mine(), "$expr": {"$gt": ["$lease.expires_at", "$$NOW"]}}

    def mine(self) -> Document:
        """Matches after the lease has run out too, until the job is claimed, paused or ended."""
        return {"_id": self.job.id, "state": "running", "lease.token": self.token}


class Claims:
    """Takes, renews and gives back claims on the jobs of one database."""

    def __init__(self, jobs: Collection, clock: Clock, *, lease_seconds: float) -> None:
        self._jobs = jobs
        # Not acknowledged by a majority: a claim that a failover undoes matches no step's update any more,
        # and a slow majority is no reason to give a claim up within `CLAIM_MILLISECONDS`.
        self._taking = jobs.with_options(write_concern=WriteConcern(w=1))
        self._clock = clock
        self._until = {"$add": ["$$NOW", int(lease_seconds * 1000)]}

    async def take(self, kinds: Some[str]) -> Claim | None:
        """Claim the job of these kinds that has waited longest for its turn, or None when there is none to be
        had.

        Raises: `PyMongoError`.
        """
        due = {
            "state": {"$in": LIVE},
            "kind": {"$in": list(kinds)},
            "next_at": {"$lte": self._clock.now()},
            **UNCLAIMED,
        }
        found = await self._jobs.find(due, {"_id": 1}).sort("next_at", 1).limit(CANDIDATES).to_list(None)
        for row in found:
            with suppress(ExecutionTimeout):
                claim = await self._take(row | due)
                if claim is not None:
                    return claim
        return None

    async def renew(self, claim: Claim) -> bool:
        """Begin the lease anew; False when the claim no longer holds.

        Raises: `PyMongoError`.
        """
        result = await self._jobs.update_one(claim.held(), [{"$set": {"lease.expires_at": self._until}}])
        return bool(result.matched_count)

    async def advance(self, claim: Claim, by: Advance, session: Session) -> Job:
        """Write what a step reached, in the step's own transaction and last of all, and renew the lease, or
        end it with a job that has ended or rests.

        Raises: `ClaimLostError`, which must abort the transaction.
        """
        job = advanced(claim.job, by, self._clock.now())
        lease: Document = {"lease.expires_at": self._until} if job.state == "running" else {"lease": None}
        # The count of steps, too: a commit whose reply was lost has made this step already.
        here = claim.held() | {"steps": claim.job.steps}
        result = await self._jobs.update_one(here, [{"$set": _literally(job) | lease}], session=session)
        if not result.matched_count:
            raise ClaimLostError
        return job

    async def fail(self, claim: Claim, reason: str, detail: str) -> None:
        """End the job as `failed`.

        Raises: `ClaimLostError`, after which the job is as it was.
        """
        now = self._clock.now()
        ended = {"state": "failed", "reason": reason, "detail": detail, "finished_at": now, "updated_at": now}
        result = await self._jobs.update_one(claim.held(), {"$set": {**ended, "lease": None}})
        if not result.matched_count:
            raise ClaimLostError

    async def give_back(self, claim: Claim, next_at: datetime | None = None) -> None:
        """Let another worker have the job, its cursor kept: at once, or in turn with those that wait since
        `next_at`.

        This claim was no failed attempt at it. Does nothing when the claim is another's or the job has ended.
        """
        attempts = {"$max": [0, {"$subtract": ["$attempts", 1]}]}
        fields = {"state": "waiting", "lease": None, "attempts": attempts, "updated_at": self._clock.now()}
        fields |= {"next_at": next_at} if next_at else {}
        await self._jobs.update_one(claim.mine(), [{"$set": fields}])

    async def state(self, claim: Claim) -> State | None:
        """The job's state now; None when it is gone."""
        row = await self._jobs.find_one({"_id": claim.job.id}, {"state": 1})
        return row["state"] if row else None

    async def _take(self, wanted: Document) -> Claim | None:
        token = new_id()
        fields = {
            "state": "running",
            "lease": {"token": token, "expires_at": self._until},
            "attempts": {"$add": ["$attempts", 1]},
            "updated_at": self._clock.now(),
        }
        row: Document | None = await self._taking.find_one_and_update(
            wanted, [{"$set": fields}], return_document=True, maxTimeMS=CLAIM_MILLISECONDS
        )
        return Claim(from_document(row), token) if row else None


def _literally(job: Job) -> dict[str, Any]:
    """The fields that a step changes, as literals: in a pipeline the text `$x` would name a field."""
    row = to_document(job)
    return {name: {"$literal": row[name]} for name in STEPPED}
