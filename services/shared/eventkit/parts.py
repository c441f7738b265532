"""Parts: a batch cut so that the transactions of several processes do not meet.

Two transactions that write one document are a write conflict: MongoDB aborts the one that is later, all its work is lost, and it runs
again. Batches of 500 events that write some hundred hot documents (the open group of a unit) always meet, so that two processes would
drain no more than one. Once a batch has met another, therefore, those after it are cut by what they may meet on. Each part is a
transaction of its own that first writes a document which stands for the part: who finds it taken learns so before any work is done, and
goes on with another part meanwhile. It is a lock that ends with its transaction, so a process that dies leaves none behind.
"""

from __future__ import annotations

import random
import zlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from pymongo.errors import OperationFailure

from services.shared.contracts.base import Envelope
from services.shared.ids import new_id
from services.shared.mongo import WRITE_CONFLICT, Database, Session

Affinity = Callable[[Envelope[Any]], str]
"""The name of what the transactions of two events may meet on."""

PARTS: Final = 8
"""With fewer, several processes would wait for each other."""
STRETCH: Final = 4
"""How many times larger a batch is that will be cut: a transaction costs about as much as 60 events, however small it is."""
WARY_BATCHES: Final = 100
"""How many batches are cut after one that has met another."""

T = TypeVar("T")


class BusyError(Exception):
    """Another process is at this part."""


class Part(NamedTuple, Generic[T]):
    """`name` is None when there is nothing to meet on: a whole batch, or what cannot be cut."""

    name: str | None
    items: Sequence[T]


class Parts:
    """How this process cuts its batches: not at all, until one has met another's."""

    def __init__(self, database: Database, affinity: Affinity | None) -> None:
        self._locks = database["parts"]
        self._affinity = affinity
        self.wary = 0
        """How many more batches will be cut."""

    @property
    def stretch(self) -> int:
        """How many ordinary batches to fetch at once."""
        return STRETCH if self._affinity and self.wary else 1

    def met(self) -> None:
        """A transaction had to run again."""
        self.wary = WARY_BATCHES

    def cut(self, items: Sequence[T], envelope: Callable[[T], Envelope[Any] | None]) -> deque[Part[T]]:
        """The parts of a batch, to be applied in any order: all events of a subject are in one, in their order."""
        if self._affinity is None or not self.wary:
            return deque([Part(None, items)])
        self.wary -= 1
        envelopes = [envelope(item) for item in items]
        often = Counter(e.subject for e in envelopes if e)
        parts: dict[str | None, list[T]] = {}
        for item, event in zip(items, envelopes, strict=True):
            alone = event is not None and often[event.subject] == 1
            name = name_of(self._affinity(event)) if event and alone else None
            parts.setdefault(name, []).append(item)
        mixed = [Part(*each) for each in parts.items()]
        random.shuffle(mixed)  # two processes then seldom want the same one
        return deque(mixed)

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


def name_of(affinity: str) -> str:
    """The part of all events with this affinity, the same in every process."""
    return str(zlib.crc32(affinity.encode()) % PARTS)
