"""Parts: a batch cut into transactions that do not meet, of this process and of others.

Two transactions that write one document are a write conflict: MongoDB aborts the one that is later, all its work is lost, and it runs
again. A consumer may say what the transactions of two events may meet on, their *affinity* (groups: the unit, whose open group a placement
writes). Events of different affinity can then be applied at the same time:

- **Lanes**: a process cuts its batch in two and applies both at once. While mongod is at the one, the process prepares the other.
- **Locks**: batches of some hundred events that write some hundred hot documents always meet those of another process, so that two
  processes would drain no more than one. Once a batch has met another, therefore, it and those after it are cut into more parts, and the
  transaction of each first writes a document that stands for the part. Who finds it taken learns so before any work is done, and goes on
  with another part meanwhile. It is a lock that ends with its transaction, so a process that dies leaves none behind.
"""

from __future__ import annotations

import random
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from pymongo.errors import OperationFailure

from services.shared.contracts.base import Envelope
from services.shared.ids import new_id
from services.shared.mongo import WRITE_CONFLICT, Database, Session

Affinity = Callable[[Envelope[Any]], str]
"""The name of what the transactions of two events may meet on."""

LANES: Final = 2
"""Transactions of one process at the same time. They share its one thread of Python, and mongod has other cores."""
LEAST: Final = 150
"""Events in each lane: a transaction costs about as much as 60 events, however small it is."""
PARTS: Final = 8
"""Parts under locks. With fewer, several processes would wait for each other."""
STRETCH: Final = 4
"""How many times larger a batch is that will be cut into those."""
WARY_BATCHES: Final = 100
"""How many batches are cut under locks after one that has met another."""

T = TypeVar("T")


class BusyError(Exception):
    """Another process is at this part."""


class MetError(Exception):
    """A batch without locks has met another process's: what writes so much would meet it again and again."""


class Part(NamedTuple, Generic[T]):
    """Items for one transaction, and the lock that it takes first."""

    items: Sequence[T]
    lock: str | None = None
    cuttable: bool = False
    """It has no lock, and should be cut rather than run again."""


class Cut(NamedTuple, Generic[T]):
    """`parts` may be applied at the same time and in any order; `last`, which cannot be cut, when they are done."""

    parts: deque[Part[T]]
    last: list[Part[T]]


class Parts:
    """How this process cuts its batches: into lanes, and under locks for a while after one has met another's."""

    def __init__(self, database: Database, affinity: Affinity | None) -> None:
        self._locks = database["parts"]
        self._affinity = affinity
        self.wary = 0
        """How many more batches will be under locks."""

    @property
    def stretch(self) -> int:
        """How many ordinary batches to fetch at once."""
        if self._affinity is None:
            return 1
        return STRETCH if self.wary else LANES

    def met(self) -> None:
        """A transaction had to run again."""
        self.wary = WARY_BATCHES

    def cut(self, items: Sequence[T], envelope: Callable[[T], Envelope[Any] | None]) -> Cut[T]:
        """Events of one affinity are in one part, in their order. Subjects whose events would be in several parts come last: each
        subject's are together and in their order, too. What has no envelope is in any part."""
        if self._affinity is None:
            return Cut(deque([Part(items)]), [])
        wary = self.wary > 0
        self.wary -= wary
        count = PARTS if wary else min(LANES, len(items) // LEAST)
        if count < 2:
            return Cut(deque([Part(items, cuttable=True)]), [])
        numbered: dict[int, list[T]] = {}
        uncut: list[T] = []
        for item, number in zip(items, self._numbers([envelope(item) for item in items], count), strict=True):
            (uncut if number is None else numbered.setdefault(number, [])).append(item)
        parts = [
            Part(part, lock=str(number)) if wary else Part(part, cuttable=True)
            for number, part in numbered.items()
        ]
        random.shuffle(parts)  # two processes then seldom want the same one
        return Cut(deque(parts), [Part(uncut)] if uncut else [])

    def _numbers(self, events: Sequence[Envelope[Any] | None], count: int) -> Iterator[int | None]:
        """Of each event its part; None of those whose subject would be in several."""
        assert self._affinity is not None
        numbers = [number_of(self._affinity(event), count) if event else 0 for event in events]
        home: dict[str, int | None] = {}
        for event, number in zip(events, numbers, strict=True):
            if event and home.setdefault(event.subject, number) != number:
                home[event.subject] = None
        for event, number in zip(events, numbers, strict=True):
            yield home[event.subject] if event else number

    async def hold(self, name: str, session: Session) -> None:
        """The first write of a part's transaction. Raises: `BusyError`."""
        try:
            await self._locks.replace_one(
                {"_id": name}, {"_id": name, "held": new_id()}, upsert=True, session=session
            )
        except OperationFailure as error:
            # Not as the conflict that it is: the transaction would be tried again at once, and wait.
            if error.code == WRITE_CONFLICT:
                raise BusyError from error
            raise


def number_of(affinity: str, count: int) -> int:
    """Which of `count` parts all events of this affinity are in, the same in every process."""
    return zlib.crc32(affinity.encode()) % count
