"""Places: which collections a projection lives in, and which of them readers and consumers use now.

Each time a projection is built it gets a new *generation*: collections of its own. One document, the
*pointer*, names the generation of each projection that is live. Queries and consumers read it anew each time,
consumers in their transaction, so a swap is one write and there is nothing to invalidate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from weakref import WeakKeyDictionary

from services.shared.database import Database, Document, Session
from services.shared.errors import TransientError
from services.shared.messaging import UnitOfWork

FIRST: Final = ("members", "placements", "groups", "notifications", "units")
"""Projections of the first release, whose generation 0 shares the collections `counters` and `days`."""
COLLECTION: Final = "projections"
POINTER: Final = "live"


class HeldError(TransientError):
    """A build is about to go live and has asked consumers to wait for a moment."""

    def __init__(self) -> None:
        super().__init__("a projection is about to be swapped")


@dataclass(frozen=True, slots=True)
class Place:
    """One generation of one projection."""

    projection: str
    version: int
    generation: int = 0

    @property
    def is_shared(self) -> bool:
        """Whether its counters and days are in the collections that the first release shared."""
        return self.generation == 0 and self.projection in FIRST

    def named(self, what: str) -> str:
        """The name of its collection of `facts`, `counters`, ..."""
        if self.is_shared:
            return self.projection if what == "facts" else what
        return f"{self.projection}.{self.generation}.{what}"


@dataclass(frozen=True, slots=True)
class Pointer:
    """The pointer as read. `live` and `shadows` are the places of each projection; shadows that `follow` are
    written by consumers too. `since` is when each live place was swapped in. `held` says that consumers
    wait."""

    live: Mapping[str, Place]
    shadows: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    followers: tuple[Place, ...] = ()
    since: Mapping[str, datetime | None] = field(default_factory=dict)
    held: bool = False

    def place(self, projection: str) -> Place | None:
        """Where readers find it; None while it is built for the first time."""
        return self.live.get(projection)

    def written(self, projection: str) -> list[Place]:
        """Where consumers write it."""
        live = self.live.get(projection)
        following = [place for place in self.followers if place.projection == projection]
        return [*([live] if live else []), *following]

    def every(self, projection: str) -> list[Place]:
        """All places that are in use: live, and being built."""
        live = self.live.get(projection)
        return [*([live] if live else []), *self.shadows.get(projection, ())]


class Pointers:
    """Reads the pointer of one database."""

    def __init__(self, database: Database) -> None:
        self._rows = database[COLLECTION]
        self._by_work: WeakKeyDictionary[UnitOfWork, Pointer] = WeakKeyDictionary()

    async def read(self, session: Session | None = None) -> Pointer:
        return pointer_of(await self._rows.find_one({"_id": POINTER}, session=session))

    async def of(self, work: UnitOfWork) -> Pointer:
        """The pointer in the snapshot of this transaction, read once.

        Raises: `HeldError` while a swap is about to happen, so that the transaction runs again after it.

        A transaction that does not see the hold has fetched its records before it, and so before the build
        that holds asks the log for its end: the build reads those records too, whenever this one commits.
        """
        pointer = self._by_work.get(work)
        if pointer is None:
            pointer = self._by_work[work] = await self.read(work.session)
            if pointer.held:
                await self._release()
                raise HeldError
        return pointer

    async def _release(self) -> None:
        """Take away a hold whose time is over by MongoDB's clock: its build has died. The swap writes the
        same document, so only one of the two happens."""
        over = {"_id": POINTER, "hold": {"$ne": None}, "$expr": {"$lt": ["$hold.until", "$$NOW"]}}
        await self._rows.update_one(over, {"$set": {"hold": None}})


def pointer_of(row: Document | None) -> Pointer:
    """The pointer as stored; before the migration that makes it, the first release's."""
    if row is None:
        return Pointer({name: Place(name, 1) for name in FIRST})
    shadows: dict[str, tuple[Place, ...]] = {}
    for shadow in row["shadows"]:
        shadows[shadow["projection"]] = (*shadows.get(shadow["projection"], ()), _place(shadow))
    return Pointer(
        live={name: Place(name, at["version"], at["generation"]) for name, at in row["live"].items()},
        shadows=shadows,
        followers=tuple(_place(shadow) for shadow in row["shadows"] if shadow["follows"]),
        since={name: at["since"] for name, at in row["live"].items()},
        held=row["hold"] is not None,
    )


def _place(row: Mapping[str, Any]) -> Place:
    return Place(row["projection"], row["version"], row["generation"])
