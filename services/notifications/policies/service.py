"""The policies of sending as requests ask for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from services.notifications.core.core import Core
from services.notifications.core.policies.domain import Policies
from services.shared.database import Document
from services.shared.errors import FieldError, InvalidError, StaleVersionError
from services.shared.identity import Identity


class PoliciesService:
    def __init__(self, core: Core) -> None:
        self._store = core.policies
        self._notifications = core.notifications
        self._clock = core.clock
        self._due = core.due

    async def current(self) -> Policies:
        return await self._store.current()

    async def put(self, caller: Identity, wanted: Policies, expected_version: int) -> tuple[Policies, int]:
        """Put policies in force, and judge again what the old ones have deferred; how many notifications that
        is. The same policies again make no version, but judge again too: the process may have died before it
        did.

        Raises: `NotFoundError` for a caller without all units; `InvalidError`; `StaleVersionError`.
        """
        caller.check_all_units()
        if found := list(faults(wanted)):
            raise InvalidError(found, reason="invalid-policies")
        known = await self._store.current()
        if known.version != expected_version:
            raise StaleVersionError
        policies, now = replace(wanted, version=known.version), self._clock.now()
        if policies != known:
            policies = replace(wanted, version=known.version + 1)
            await self._store.add(policies, now, caller.subject)
        judged = await self._notifications.judge_again(now)
        self._due.set()
        return policies, judged

    async def versions(self, caller: Identity, before: int | None, limit: int) -> list[Document]:
        """Raises: `NotFoundError` for a caller without all units."""
        caller.check_all_units()
        return await self._store.versions(before, limit)


def faults(policies: Policies) -> Iterator[FieldError]:
    """Mistakes that no single field shows."""
    for i, hours in enumerate(policies.quiet_hours):
        if hours.begins == hours.ends:
            yield FieldError(f"/quiet_hours/{i}/until", "is the hour at which they begin: all day is quiet")
    yield from _twice("quiet_hours", [each.name for each in policies.quiet_hours], "name")
    yield from _twice("silence_windows", [each.id for each in policies.silence_windows], "id")
    yield from _twice("budgets", [each.channel for each in policies.budgets], "channel")
    yield from _twice("rates", [each.channel for each in policies.rates], "channel")


def _twice(field: str, words: list[str], name: str) -> Iterator[FieldError]:
    for i, word in enumerate(words):
        if word in words[:i]:
            yield FieldError(f"/{field}/{i}/{name}", f"is there already: {field}/{words.index(word)}")
