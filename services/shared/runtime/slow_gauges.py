"""Slow gauges: values that change slowly and must be read (MongoDB's oplog, age of keys), once a minute."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Gauge

from services.shared.database import Client, ServerClock, oplog_window
from services.shared.encryption import Vault
from services.shared.faults import FaultFamily, classify
from services.shared.loops import Pace, Turn, poll_loop

log = structlog.get_logger(__name__)

EVERY_SECONDS: Final = 60.0

Reading = Callable[[], Awaitable[None]]
"""Reads one value and sets its gauge."""


class SlowGauges:
    def __init__(self, readings: Sequence[Reading]) -> None:
        self._readings = readings

    async def run(self, stop: asyncio.Event) -> None:
        """Run every reading once a minute until `stop`.

        Raises: a permanent fault, for the supervisor to log and restart the loop.
        """
        await poll_loop("slow-gauges", self._read_all, stop, Pace.every(EVERY_SECONDS))

    async def _read_all(self) -> Turn:
        for reading in self._readings:
            try:
                await reading()
            except Exception as error:  # a failed reading must not stop the others
                if classify(error) is FaultFamily.PERMANENT:
                    raise
                log.warning("slow_gauges.unread", reading=reading.__qualname__, error=type(error).__name__)
        return Turn.NOTHING


def clock_skew(clock: ServerClock, registry: CollectorRegistry) -> Reading:
    gauge = Gauge(
        "sangathan_clock_skew_seconds",
        "Seconds by which this process's clock is ahead of MongoDB's (negative: behind), at least: "
        "0 within a round trip.",
        registry=registry,
    )

    async def read() -> None:
        gauge.set(await clock.read())

    return read


def oplog(client: Client, registry: CollectorRegistry) -> Reading:
    gauge = Gauge(
        "sangathan_mongo_oplog_window_seconds",
        "History that the oplog holds once full, at its recent pace; absent if local.oplog.rs is unreadable.",
        ["replica_set"],
        registry=registry,
    )

    async def read() -> None:
        if found := await oplog_window(client):
            gauge.labels(found.replica_set).set(found.window)

    return read


def vault_key(vault: Vault, registry: CollectorRegistry) -> Reading:
    gauge = Gauge(
        "sangathan_vault_key_created_timestamp_seconds",
        "When the current data key was created; 0 before the first.",
        registry=registry,
    )

    async def read() -> None:
        made = await vault.current_key_at()
        gauge.set(made.timestamp() if made else 0)

    return read
