"""Sub-batches: a batch is split into transactions that do not conflict, within this process and across
processes.

When two transactions write one document, MongoDB aborts the later one, which loses its work and runs again. A
consumer may declare what the transactions of two events can conflict on: their *affinity* (in groups the
unit, whose open group a placement writes). Events of different affinity can be applied at the same time:

- **Concurrency**: a process splits its batch in two and applies both at once. While mongod works on one
  transaction, the process prepares the other.
- **Locks**: batches of some hundred events that write some hundred hot documents always conflict with those
  of another process, so two processes would drain no more than one. Therefore, after a conflict, this batch
  and the following ones are split into more sub-batches, and each transaction first writes a document that
  stands for its sub-batch. A process that finds it locked has done no work yet, and takes another sub-batch.
  The lock ends with its transaction, so a process that dies leaves none behind.
"""

from __future__ import annotations

import random
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from pymongo.errors import OperationFailure

from services.shared.contracts.base import Envelope
from services.shared.database import Database, Session
from services.shared.faults import WRITE_CONFLICT
from services.shared.ids import new_id

Affinity = Callable[[Envelope[Any]], str]
"""Names what the transactions of two events can conflict on."""

COLLECTION: Final = "parts"
"""Collection of the locks. It keeps its first name: processes of an older release lock the same documents."""
CONCURRENCY: Final = 2
"""Concurrent transactions of one process. They share its one Python thread; mongod has other cores."""
MIN_EVENTS: Final = 150
"""Minimum number of events in a concurrent sub-batch: a transaction costs about as much as 60 events, however
small it is."""
LOCKED_SUB_BATCHES: Final = 8
"""Number of locked sub-batches. With fewer, several processes would wait for each other."""
CONTENDED_FETCH: Final = 4
"""Ordinary batches fetched at once during contention, to be split into locked sub-batches."""
CONTENDED_BATCHES: Final = 100
"""Batches that are split under locks after a conflict with another process."""

T = TypeVar("T")


class LockedError(Exception):
    """Another process has locked this sub-batch."""


class ContentionError(Exception):
    """A batch without locks conflicted with another process; it writes so much that it would conflict again
    and again."""


class SubBatch(NamedTuple, Generic[T]):
    """The records of one transaction, and the lock that it takes first."""

    records: Sequence[T]
    lock: str | None = None
    splittable: bool = False
    """Without a lock; after a conflict, split it instead of running it again."""


class Split(NamedTuple, Generic[T]):
    """`concurrent` may be applied at the same time and in any order; `last`, which cannot be split, comes
    after them."""

    concurrent: deque[SubBatch[T]]
    last: list[SubBatch[T]]


class Splitter:
    """Splits the batches of this process: for concurrency, and under locks for a while after contention."""

    def __init__(self, database: Database, affinity: Affinity | None) -> None:
        self._locks = database[COLLECTION]
        self._affinity = affinity
        self.contended = 0
        """How many more batches to split under locks."""

    @property
    def batches_per_fetch(self) -> int:
        """How many ordinary batches to fetch at once."""
        if self._affinity is None:
            return 1
        return CONTENDED_FETCH if self.contended else CONCURRENCY

    def note_contention(self) -> None:
        """Report that a transaction had to run again."""
        self.contended = CONTENDED_BATCHES

    def split(self, records: Sequence[T], envelope: Callable[[T], Envelope[Any] | None]) -> Split[T]:
        """Split a batch: events of one affinity share a sub-batch, in their order.

        Subjects whose events would fall into several sub-batches come last, with each subject's events
        together and in order. A record without an envelope may be in any sub-batch.
        """
        if self._affinity is None:
            return Split(deque([SubBatch(records)]), [])
        contended = self.contended > 0
        self.contended -= contended
        count = LOCKED_SUB_BATCHES if contended else min(CONCURRENCY, len(records) // MIN_EVENTS)
        if count < 2:
            return Split(deque([SubBatch(records, splittable=True)]), [])
        numbered: dict[int, list[T]] = {}
        unsplit: list[T] = []
        for record, number in zip(records, self._numbers([envelope(r) for r in records], count), strict=True):
            (unsplit if number is None else numbered.setdefault(number, [])).append(record)
        concurrent = [
            SubBatch(members, lock=str(number)) if contended else SubBatch(members, splittable=True)
            for number, members in numbered.items()
        ]
        random.shuffle(concurrent)  # so that two processes seldom try the same one
        return Split(deque(concurrent), [SubBatch(unsplit)] if unsplit else [])

    def _numbers(self, events: Sequence[Envelope[Any] | None], count: int) -> Iterator[int | None]:
        """The number of each event's sub-batch; None for events whose subject would be in several."""
        assert self._affinity is not None
        numbers = [number_of(self._affinity(event), count) if event else 0 for event in events]
        home: dict[str, int | None] = {}
        for event, number in zip(events, numbers, strict=True):
            if event and home.setdefault(event.subject, number) != number:
                home[event.subject] = None
        for event, number in zip(events, numbers, strict=True):
            yield home[event.subject] if event else number

    async def lock(self, name: str, session: Session) -> None:
        """Take the lock, by the first write of the sub-batch's transaction. Raises: `LockedError`."""
        try:
            await self._locks.replace_one(
                {"_id": name}, {"_id": name, "held": new_id()}, upsert=True, session=session
            )
        except OperationFailure as error:
            # Not raised as a write conflict: the transaction would run again at once, and wait.
            if error.code == WRITE_CONFLICT:
                raise LockedError from error
            raise


def number_of(affinity: str, count: int) -> int:
    """The number (0 to `count` - 1) of the sub-batch for this affinity; the same in every process."""
    return zlib.crc32(affinity.encode()) % count
