"""All four services on separate stores. Every unit has a group with an invite link, so welcomes go out."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from infra.local.demo.api import Api
from infra.local.demo.invites import InviteLinks
from infra.local.demo.quiet import settle
from infra.local.ports import HOST
from infra.local.services import SERVICES
from infra.local.stack import LocalStack
from services.shared.database import Client, Collection, connect
from tests.bench.environment import UNITS, Environment, timed_until
from tests.bench.ingest import bodies
from tests.bench.load import Load, post

EVENTS_COUNTED = 4
"""Events of one join: member.joined, group.member_assigned, notification.queued, notification.sent."""
SETTLE_SECONDS = 120.0
CONNECTIONS = 64


class Whole:
    def __init__(self, stack: LocalStack) -> None:
        self.stack = stack
        self.client: Client = connect(stack.mongo, app_name="bench")
        self._number = secrets.randbelow(1_000_000)

    @property
    def services(self) -> dict[str, int]:
        """Process ids."""
        return {name: self.stack.processes[name].pid for name in SERVICES}

    def collection(self, service: str, name: str) -> Collection:
        return self.client[service][name]

    async def post(
        self, count: int, *, connections: int = CONNECTIONS, rate: float = 0, keep: bool = False
    ) -> Load:
        """Register `count` more people. Raises: `RuntimeError` when one was not accepted."""
        start, self._number = self._number, self._number + count
        load = await post(
            HOST,
            urlsplit(self.stack.urls["members"]).port or 0,
            "/v1/members",
            self.stack.token,
            bodies(start, count),
            connections=connections,
            rate=rate,
            keep=keep,
        )
        if set(load.statuses) != {201}:
            raise RuntimeError(f"not all were accepted: {dict(load.statuses)}")
        return load

    async def counted(self) -> int:
        """Events that analytics has counted; cheap enough to poll."""
        return await self.collection("analytics", "inbox").estimated_document_count()

    async def join(self, count: int) -> float:
        """Register as fast as possible; the seconds until every welcome is sent and counted."""
        before, began = await self.counted(), time.perf_counter()
        await self.post(count)
        return await timed_until(self.counted, before + count * EVENTS_COUNTED, began)

    async def prepare(self) -> None:
        """Load the tree, one member in each of its blocks, and a link for the resulting groups."""
        districts = sorted({unit.rpartition("-")[0] for unit in UNITS})
        rows = [("BR", "state"), *((d, "district") for d in districts), *((u, "block") for u in UNITS)]
        tree = "code,level,name_en,name_hi,women_target\n" + "".join(
            f"{c},{level},{c},{c},\n" for c, level in rows
        )
        async with Api(self.stack.urls, self.stack.token, connections=16) as api:
            headers = {"Content-Type": "text/csv"}
            answer = await api.send("POST", "groups", "/v1/units/imports", content=tree, headers=headers)
            answer.raise_for_status()
            await self.post(len(UNITS))
            if not await settle(api, InviteLinks(api), SETTLE_SECONDS):
                raise TimeoutError("the stack did not come to rest")


@asynccontextmanager
async def whole(env: Environment) -> AsyncIterator[Whole]:
    directory = env.directory / f"whole-{secrets.token_hex(4)}"
    async with LocalStack(directory, broker=env.broker, restart=False) as stack:
        all_of_it = Whole(stack)
        await all_of_it.prepare()
        yield all_of_it
        all_of_it.client.close()
