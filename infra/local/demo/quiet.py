"""Waits until nothing moves: every event published, consumed and counted."""

from __future__ import annotations

import asyncio
from typing import Any

from infra.local.demo.api import Api
from infra.local.demo.invites import InviteLinks
from infra.local.services import SERVICES

QUIET_SECONDS = 1.0
POLL_SECONDS = 0.25
BACKLOGS = ("sangathan_outbox_rows", "sangathan_consumer_lag_records")


async def settle(api: Api, links: InviteLinks, within: float) -> bool:
    """Wait until all groups have a link, no service has a backlog and the overview is stable for
    `QUIET_SECONDS`.

    Returns whether that happened within `within` seconds. If not, the books will show what is missing.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    before: Any = None
    since = loop.time()
    while loop.time() < deadline:
        moving = await links.give() + await _backlog(api)
        overview = await api.get("analytics", "/v1/overview")
        if moving or overview != before:
            before, since = overview, loop.time()
        elif loop.time() - since >= QUIET_SECONDS:
            return True
        await asyncio.sleep(POLL_SECONDS)
    return False


async def _backlog(api: Api) -> int:
    """Records waiting in outboxes and topics; 0 where a service lacks the metric."""
    scraped = await asyncio.gather(*(api.metrics(service) for service in SERVICES))
    return int(sum(metrics.get(name, 0.0) for metrics in scraped for name in BACKLOGS))
