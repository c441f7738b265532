"""The policy in force, as every part of the service asks for it."""

from __future__ import annotations

import time
from typing import Final

from services.groups.core.policy import Policy, default_policy
from services.groups.core.store import PolicyVersions
from services.shared.database import Session

FRESH_SECONDS: Final = 1.0
"""How long a process goes by the policy that it has read: a query for each batch would buy little, since a
transaction that began before a new policy may commit after it all the same. A job that applies a policy
outwaits both (`policy/jobs.py`)."""


class Policies:
    def __init__(self, store: PolicyVersions, capacity: int) -> None:
        self._store = store
        self._capacity = capacity
        self._known: Policy | None = None
        self._read_at = 0.0

    async def current(self) -> Policy:
        """The policy in force, as it was at most `FRESH_SECONDS` ago."""
        began = time.monotonic()
        if self._known is None or began - self._read_at > FRESH_SECONDS:
            self._known, self._read_at = await self.newest(), began
        return self._known

    async def newest(self, session: Session | None = None) -> Policy:
        """The policy in force now."""
        if policy := await self._store.newest(session):
            return policy
        return default_policy(self._capacity, await self._store.levels(session))

    async def levels(self) -> tuple[str, ...]:
        """The levels of the tree in force, from the root."""
        return await self._store.levels()

    async def hold_levels(self, session: Session) -> tuple[str, ...]:
        """The same, for a transaction that must not commit beside one that changes them."""
        return await self._store.hold_levels(session)

    def put_in_force(self, policy: Policy) -> None:
        """Go by it at once in this process."""
        if self._known is None or policy.version > self._known.version:
            self._known, self._read_at = policy, time.monotonic()
