"""Observations while an attack runs: answers of `/livez`, memory of the services, and the way of honest
members."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field

import httpx2

from tests.bench.processor import resident_bytes
from tests.chaos.ledger import Ledger

EVERY_SECONDS = 0.05


@dataclass
class Observed:
    """`livez` is the slowest answer in seconds; `grown` the largest growth of a process in bytes."""

    livez: float = 0.0
    grown: int = 0
    _before: dict[str, int] = field(default_factory=dict)

    def note(self, answered: float, memory: Mapping[str, int]) -> None:
        self.livez = max(self.livez, answered)
        for name, size in memory.items():
            self.grown = max(self.grown, size - self._before.setdefault(name, size))


@contextlib.asynccontextmanager
async def observing(urls: Mapping[str, str], pids: Mapping[str, int]) -> AsyncIterator[Observed]:
    """Ask every service's `/livez` twenty times a second, and read its memory, until the block ends."""
    observed = Observed()
    async with httpx2.AsyncClient(timeout=60, trust_env=False) as http:

        async def look(name: str) -> None:
            while True:
                began = time.monotonic()
                (await http.get(f"{urls[name]}/livez")).raise_for_status()
                observed.note(time.monotonic() - began, {name: resident_bytes(pids[name])})
                await asyncio.sleep(EVERY_SECONDS)

        looks = [asyncio.create_task(look(name)) for name in pids]
        try:
            yield observed
        finally:
            for each in looks:
                each.cancel()
            for outcome in await asyncio.gather(*looks, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome


async def all_served(ledger: Ledger, members: Collection[str], seconds: float) -> set[str]:
    """Wait until each of the members has been placed and welcomed; those who were not within `seconds`."""
    deadline = time.monotonic() + seconds
    while (lost := ledger.lost(members)) and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    return lost
