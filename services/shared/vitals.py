"""What runs out slowly (MongoDB's oplog, keys, tokens) and can be seen only by looking: once a minute."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Gauge

from services.shared.crypto import Vault
from services.shared.eventkit.errors import Verdict, classify
from services.shared.eventkit.loops import first
from services.shared.mongo import Client, oplog_window

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 60.0

Look = Callable[[], Awaitable[None]]
"""Reads one thing and sets its gauge."""


class Vitals:
    def __init__(self) -> None:
        self._looks: list[Look] = []

    def add(self, look: Look) -> None:
        self._looks.append(look)

    async def run(self, stop: asyncio.Event) -> None:
        """Look at everything until `stop`.

        Raises: what is not known to pass, for the supervisor to log and restart.
        """
        while not stop.is_set():
            for look in self._looks:
                await self._try(look)
            await first(stop, timeout=LOOK_SECONDS)

    async def _try(self, look: Look) -> None:
        try:
            await look()
        except Exception as error:
            if classify(error) is Verdict.PERMANENT:
                raise
            log.warning("vitals.unread", look=look.__qualname__, error=type(error).__name__)


def oplog(client: Client, registry: CollectorRegistry) -> Look:
    gauge = Gauge(
        "sangathan_mongo_oplog_window_seconds",
        "What the oplog holds once full, at its recent pace; absent where the service may not read local.oplog.rs.",
        ["replica_set"],
        registry=registry,
    )

    async def look() -> None:
        if found := await oplog_window(client):
            gauge.labels(found.replica_set).set(found.window)

    return look


def vault_key(vault: Vault, registry: CollectorRegistry) -> Look:
    gauge = Gauge(
        "sangathan_vault_key_created_timestamp_seconds",
        "When the data key that seals contacts was made; 0 before the first.",
        registry=registry,
    )

    async def look() -> None:
        made = await vault.current_key_at()
        gauge.set(made.timestamp() if made else 0)

    return look
