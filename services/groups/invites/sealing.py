"""Sealing of links where they are: those of release 0.1.0, and those that its processes still write while a
release is rolled out."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from services.groups.core.core import Core
from services.groups.invites.store import InviteStore
from services.shared.loops import Pace, Turn, poll_loop

log = structlog.get_logger(__name__)

LOOP: Final = "invite-links"
PACE: Final = Pace(1.0, 60.0)
BATCH: Final = 500


class LinkSealer:
    def __init__(self, core: Core, store: InviteStore) -> None:
        self._core = core
        self._store = store

    async def run(self, stop: asyncio.Event) -> None:
        await poll_loop(LOOP, self._turn, stop, PACE)

    async def _turn(self) -> Turn:
        return Turn.of(await self.seal_batch(), BATCH)

    async def seal_batch(self) -> int:
        """How many links there were to seal."""
        plain = await self._store.plain_links(BATCH)
        if plain:
            sealed = await self._core.vault.seal((id_, {"link": link}) for id_, link in plain.items())
            await self._store.seal(plain, dict(zip(plain, sealed, strict=True)))
            self._core.metrics.links_sealed.inc(len(plain))
            log.info("invite_links.sealed", count=len(plain))
        return len(plain)
