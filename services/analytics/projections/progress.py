"""The cursor of a job that reads the log, and how far it has come."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from services.shared.database import Document
from services.shared.jobs import Advance, Job
from services.shared.messaging import Partition

WAIT: Final = timedelta(seconds=1)
Cursor = dict[str, Any]


def advance(
    job: Job,
    cursor: Cursor,
    done: int,
    now: datetime,
    *,
    rest: datetime | None = None,
    finished: bool = False,
    result: Any = None,
    moved: bool = False,
) -> Advance:
    """The next state of the job. It has `moved` also where it has folded records or entered a phase."""
    if done or moved or cursor["phase"] != job.cursor["phase"]:
        cursor = {**cursor, "moved_at": now}
    reached = job.done + done
    return Advance(
        cursor=cursor,
        done=done,
        total=reached + max(0, remaining(cursor)),
        finished=finished,
        result=result,
        rest_until=rest,
    )


def remaining(cursor: Cursor) -> int:
    """Records between the cursor's offsets and its ends."""
    ends: Document = cursor["ends"] or {}
    return sum(max(0, end - cursor["offsets"].get(key, 0)) for key, end in ends.items())


def key_of(partition: Partition) -> str:
    """`sangathan.members/3`, without a dot: it is the name of a field."""
    return f"{partition.topic.replace('.', ':')}/{partition.number}"


def partition_of(key: str) -> Partition:
    topic, _, number = key.rpartition("/")
    return Partition(topic.replace(":", "."), int(number))
