"""Keeping the terms by which units are found up to date, whoever wrote a unit.

Processes of this release derive them with each change. One of an earlier release does not, before an upgrade
or beside this one: so all units are looked through at the start, and then every few minutes.
"""

from __future__ import annotations

import asyncio
from typing import Final

from services.groups.tree.store import TreeStore
from services.shared.loops import Pace, Turn, poll_loop

LOOP: Final = "unit-terms"
PACE: Final = Pace(0.05, 300.0)
BATCH: Final = 500


class Terms:
    def __init__(self, store: TreeStore) -> None:
        self._store = store
        self._after = ""

    async def run(self, stop: asyncio.Event) -> None:
        await poll_loop(LOOP, self.turn, stop, PACE)

    async def turn(self) -> Turn:
        _, last = await self._store.derive_terms(self._after, BATCH)
        self._after = last or ""
        return Turn.NOTHING if last is None else Turn.SOME
