"""`python -m tests.integration.notifications.killed_applier`: a process that applies callbacks up to a point,
says that it stands there, and waits to be killed.

The environment has the settings as JSON (KILLED_SETTINGS) and the point (KILLED_AT): `within` a transaction,
before it commits; or `after` it, before the callbacks are marked as applied.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from services.notifications.settings import NotificationsSettings
from services.shared.clock import ManualClock
from tests.integration.notifications.callbacks import Hooks
from tests.integration.notifications.conftest import START, Bench, gateways


async def stand(*_: Any) -> None:
    print("standing", flush=True)
    await asyncio.sleep(600)


async def main() -> None:
    settings = NotificationsSettings(**json.loads(os.environ["KILLED_SETTINGS"]))
    made = gateways()
    bench = Bench(settings, ManualClock(START), sources=made)
    await bench.runtime.server_clock.read()
    applier = Hooks(bench, made).applier
    if os.environ["KILLED_AT"] == "within":
        applier._updating._write = stand  # type: ignore[method-assign,assignment]
    else:
        applier._callbacks.applied = stand  # type: ignore[method-assign,assignment]
    await applier.apply()


if __name__ == "__main__":
    asyncio.run(main())
