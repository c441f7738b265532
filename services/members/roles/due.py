"""The loop that publishes what time does to roles: terms that begin, and terms that end."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Gauge

from services.members.roles.service import Roles
from services.members.roles.store import RoleStore
from services.shared.database import ServerClock
from services.shared.faults import may_pass
from services.shared.loops import Pace, Turn, poll_loop
from services.shared.runtime.slow_gauges import Reading

log = structlog.get_logger(__name__)

LOOP: Final = "roles"
PACE: Final = Pace.every(5.0)
"""Seconds by which a list of members by role may be late; the officers of a unit never are."""
BATCH: Final = 100


class DueRoles:
    """Several processes may do the same at once: whoever comes second finds nothing to change."""

    def __init__(self, roles: Roles, store: RoleStore, clock: ServerClock) -> None:
        self._roles = roles
        self._store = store
        self._clock = clock

    async def run(self, stop: asyncio.Event) -> None:
        """Raises: a fault that does not pass, for the supervisor to log and restart."""
        await poll_loop(LOOP, self._turn, stop, PACE)

    async def _turn(self) -> Turn:
        members = await self._store.due(self._clock.now(), BATCH)
        for member_id in members:
            try:
                await self._roles.settle(member_id)
            except Exception as error:
                if may_pass(error):
                    raise
                log.error("role.not_settled", member=member_id, error=type(error).__name__)
        return Turn.NOTHING


def overdue(store: RoleStore, clock: ServerClock, registry: CollectorRegistry) -> Reading:
    gauge = Gauge(
        "sangathan_members_roles_overdue_seconds",
        "Seconds since a role began or ended that has not been published yet; 0 if there is none.",
        registry=registry,
    )

    async def read() -> None:
        due_at = await store.oldest_due()
        gauge.set(max(0.0, (clock.now() - due_at).total_seconds()) if due_at else 0)

    return read
