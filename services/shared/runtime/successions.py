"""Which units were retired, and what stands for each: kept by every service from `unit.succeeded`, and known
to each of its processes, for the unit of a token and of a request.

`successions {_id: code, successors, at}`
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection as Many
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from pymongo import IndexModel, UpdateOne

from services.shared.clock import Clock
from services.shared.contracts.base import Envelope
from services.shared.contracts.groups import UnitSucceeded
from services.shared.contracts.successions import parts_of, standing_for
from services.shared.database import Collection, Database, Migration, Session, create
from services.shared.loops import Pace, Turn, poll_loop
from services.shared.messaging import Subscriptions, UnitOfWork
from services.shared.runtime.feature import Feature

LOOP: Final = "successions"
PACE: Final = Pace.every(5.0)
OVERLAP: Final = timedelta(minutes=5)
"""How much earlier than its commit `at` may be: clocks differ, and transactions wait."""


class Successions:
    """The successions of one database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._rows: Collection = database["successions"]
        self._clock = clock
        self._known: dict[str, tuple[str, ...]] = {}
        self._upto: datetime | None = None

    def standing_for(self, unit: str) -> str | None:
        """The unit that stands for this one now, itself or another; None if there is no such one."""
        return standing_for(unit, self._known)

    def successors(self, unit: str) -> tuple[str, ...] | None:
        """The units that it became; None for one that is live."""
        return self._known.get(unit)

    async def hear(self, events: Sequence[Envelope[UnitSucceeded]], work: UnitOfWork) -> None:
        await self.add({event.data.unit: event.data.successors for event in events}, work)

    async def add(self, successions: Mapping[str, Sequence[str]], work: UnitOfWork) -> None:
        now = self._clock.now()
        writes = [
            UpdateOne({"_id": unit}, {"$set": {"successors": list(successors), "at": now}}, upsert=True)
            for unit, successors in successions.items()
        ]
        if writes:
            await self._rows.bulk_write(writes, ordered=False, session=work.session)
            work.after_commit(
                lambda: self._known.update({unit: tuple(each) for unit, each in successions.items()})
            )

    async def of(self, units: Sequence[str], session: Session | None = None) -> dict[str, tuple[str, ...]]:
        """As stored, which may be newer than what this process knows."""
        rows = self._rows.find({"_id": {"$in": list(units)}}, session=session)
        return {row["_id"]: tuple(row["successors"]) async for row in rows}

    async def resolve(self, units: Sequence[str], session: Session | None = None) -> dict[str, str | None]:
        """As `standing_for`, for many, from what is stored."""
        known = await self._all_after(units, session)
        return {unit: standing_for(unit, known) for unit in units}

    async def parts(self, units: Sequence[str], session: Session | None = None) -> dict[str, tuple[str, ...]]:
        """The live units that each of these has become in the end, as stored; of a live one itself."""
        known = await self._all_after(units, session)
        return {unit: parts_of(unit, known) for unit in units}

    async def retired(self, units: Many[str], session: Session | None = None) -> dict[str, tuple[str, ...]]:
        """As `parts`, of the retired ones among these alone; mostly there are none."""
        known = await self._all_after(units, session)
        return {unit: parts_of(unit, known) for unit in units if unit in known}

    async def _all_after(self, units: Many[str], session: Session | None) -> dict[str, tuple[str, ...]]:
        """The successors of these units, of those, and so on."""
        asked = set(units)
        known: dict[str, tuple[str, ...]] = {}
        while asked:
            found = await self.of(list(asked), session)
            known |= found
            asked = {successor for each in found.values() for successor in each} - known.keys()
        return known

    async def refresh(self) -> Turn:
        """Read what other processes have written since."""
        began = self._clock.now()
        query: dict[str, Any] = {} if self._upto is None else {"at": {"$gte": self._upto - OVERLAP}}
        async for row in self._rows.find(query):
            self._known[row["_id"]] = tuple(row["successors"])
        self._upto = began
        return Turn.NOTHING

    async def run(self, stop: asyncio.Event) -> None:
        await poll_loop(LOOP, self.refresh, stop, PACE)


async def _create(database: Database) -> None:
    await create(database, "successions", indexes=[IndexModel("at")])


MIGRATIONS: Final = (Migration("successions-0001", "successions of units", _create),)


def successions(known: Successions, *, hears: bool = True) -> Feature:
    """The feature of every service whose callers have units. The one that makes the successions does not hear
    of them."""
    subscriptions: Subscriptions = {UnitSucceeded: known.hear} if hears else {}
    return Feature(subscriptions=subscriptions, loops={LOOP: known.run}, migrations=MIGRATIONS)
