"""The values of long work: a job, its kind, one step's effect, and how far that step brought the job."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, TypeAlias, get_args

from services.shared.database import Document
from services.shared.identity import Identity
from services.shared.messaging import Origin, UnitOfWork

State: TypeAlias = Literal["waiting", "running", "paused", "succeeded", "failed", "cancelled"]
STATES: tuple[State, ...] = get_args(State)
LIVE: tuple[State, ...] = ("waiting", "running")
"""States in which a worker may have or take the job."""
ENDED: tuple[State, ...] = ("succeeded", "failed", "cancelled")
"""Final states."""


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of long work as it is stored.

    `input` holds the kind's parameters; a file is kept beside it (see `inputs`). `cursor` is where the next
    step begins, in the kind's own terms; None before the first step. `done` counts units of work, out of
    `total` if that is known. `steps` counts committed steps, `attempts` the claims since the last of them.
    `next_at` is when a worker may claim it: when it is due, and later each time it has had its turn.
    `requested_by` is the identity of the requester as it was then: each step checks again that what it
    touches is within it. Times are UTC.
    """

    id: str
    kind: str
    input: Document
    requested_by: Identity
    due_at: datetime
    next_at: datetime
    created_at: datetime
    updated_at: datetime
    correlation_id: str
    traceparent: str
    state: State = "waiting"
    done: int = 0
    total: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    cursor: Any = None
    steps: int = 0
    attempts: int = 0
    result: Any = None
    reason: str | None = None
    detail: str | None = None
    progressed_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def unit(self) -> str:
        """Callers with access to this unit see the job; `*` are all units."""
        assert self.requested_by.unit is not None  # `Jobs.add` refuses an identity without access to any
        return self.requested_by.unit

    @property
    def origin(self) -> Origin:
        """Events that a step stages belong to the request that asked for the job."""
        return Origin(self.correlation_id, self.traceparent)

    @property
    def rests_until(self) -> datetime | None:
        """The time before which no worker takes it; None for one that is worked at or may be."""
        return self.due_at if self.state == "waiting" and self.due_at > self.updated_at else None


@dataclass(frozen=True, slots=True)
class Advance:
    """How far one step brought its job.

    `cursor` replaces the job's cursor. `done` and `counts` (`{"created": 3, "refused": 1}`) are added to the
    job's. `total` replaces the job's total unless it is None. `result` is kept when `finished`; the API
    shows it, so it holds JSON values only and nothing personal. Until `rest_until` no worker takes the next
    step.
    """

    cursor: Any = None
    done: int = 0
    total: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    finished: bool = False
    result: Any = None
    rest_until: datetime | None = None


Effect: TypeAlias = Callable[[UnitOfWork], Awaitable[Advance]]
"""Writes what one step changes, in the transaction of `work`.

It may run several times and keeps nothing between runs.
"""

Step: TypeAlias = Callable[[Job], Awaitable[Effect]]
"""Prepares the step that begins at the job's cursor: reads and parses, outside any transaction, and writes
nothing."""


@dataclass(frozen=True, slots=True)
class JobKind:
    """A kind of job: its name, as stored in each job, and the step that is repeated until it is finished."""

    name: str
    step: Step


def advanced(job: Job, by: Advance, now: datetime) -> Job:
    """The job after a committed step."""
    goes_on: State = "waiting" if by.rest_until else "running"
    return replace(
        job,
        due_at=by.rest_until or job.due_at,
        next_at=by.rest_until or job.next_at,
        cursor=by.cursor,
        done=job.done + by.done,
        total=job.total if by.total is None else by.total,
        counts={
            word: job.counts.get(word, 0) + by.counts.get(word, 0) for word in {**job.counts, **by.counts}
        },
        steps=job.steps + 1,
        attempts=0,
        state="succeeded" if by.finished else goes_on,
        result=by.result if by.finished else None,
        updated_at=now,
        progressed_at=now,
        finished_at=now if by.finished else None,
    )


_NESTED = {"id", "requested_by", "done", "total", "counts"}
_PLAIN = tuple(name for name in Job.__dataclass_fields__ if name not in _NESTED)


def to_document(job: Job) -> Document:
    """The job as stored, without its lease, which only `claims` writes."""
    who = job.requested_by
    return {
        "_id": job.id,
        **{name: getattr(job, name) for name in _PLAIN},
        "requested_by": {"subject": who.subject, "scopes": sorted(who.scopes), "unit": who.unit},
        "progress": {"done": job.done, "total": job.total},
        "counts": dict(job.counts),
    }


def from_document(row: Document) -> Job:
    who = row["requested_by"]
    return Job(
        id=row["_id"],
        requested_by=Identity(who["subject"], frozenset(who["scopes"]), who["unit"]),
        done=row["progress"]["done"],
        total=row["progress"]["total"],
        counts=row["counts"],
        **{name: row[name] for name in _PLAIN},
    )
