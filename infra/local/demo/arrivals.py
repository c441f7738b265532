"""Register members by `POST /v1/members`: as many at once as connections allow, or at a steady pace."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from infra.local.demo.api import Api
from infra.local.demo.people import Person
from infra.local.errors import LocalError

Told = Callable[[], None]
"""Called after each answer."""


@dataclass(frozen=True)
class Accepted:
    """A 201: the member, and the time of joining that members reports."""

    member_id: str
    at: datetime


class Arrivals:
    """`already` counts the 409s: phone numbers that an earlier run on the same data registered."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.already = 0

    async def rush(self, crowd: Iterable[Person], at_once: int, told: Told) -> list[Accepted]:
        """Register everyone as fast as the service allows, with `at_once` requests in flight."""
        waiting = iter(crowd)
        accepted: list[Accepted] = []

        async def door() -> None:
            for person in waiting:
                await self._register(person, accepted, told)

        async with asyncio.TaskGroup() as doors:
            for _ in range(at_once):
                doors.create_task(door())
        return accepted

    async def walk(self, crowd: Iterable[Person], per_second: float, told: Told) -> list[Accepted]:
        """Register one after another at a steady pace, without waiting for the previous answer."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        accepted: list[Accepted] = []
        async with asyncio.TaskGroup() as walking:
            for n, person in enumerate(crowd):
                await asyncio.sleep(began + n / per_second - loop.time())
                walking.create_task(self._register(person, accepted, told))
        return sorted(accepted, key=lambda a: a.at)

    async def _register(self, person: Person, accepted: list[Accepted], told: Told) -> None:
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        answer = await self._api.send("POST", "members", "/v1/members", json=person, headers=headers)
        if answer.status_code == 201:
            accepted.append(_accepted(answer.json()))
        elif answer.status_code == 409:
            self.already += 1
        else:
            raise LocalError(f"members answered {answer.status_code} to a registration: {answer.text[:300]}")
        told()


def _accepted(member: dict[str, Any]) -> Accepted:
    return Accepted(member["id"], datetime.fromisoformat(member["joined_at"]))
