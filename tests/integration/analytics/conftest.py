"""An analytics service on a real MongoDB, fed with records as the broker would hand them over."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from infra.local.keys import Keys
from services.analytics.app import compose
from services.analytics.core.core import Core
from services.analytics.settings import AnalyticsSettings
from services.shared.clock import Clock, ManualClock
from services.shared.contracts.base import Envelope
from services.shared.messaging import Message, Partition, Record, UnitOfWork, encode
from services.shared.runtime import Runtime
from tests.fixtures.apps import base_settings
from tests.fixtures.databases import a_database, release, shape_of


class Analytics:
    """`feed` is the way of the events, `get` that of the readers."""

    def __init__(self, core: Core, keys: Keys) -> None:
        self.runtime = core.runtime
        self.store = core.store
        self.coverage = core.coverage
        self.pointers = core.pointers
        self.service = compose(core)
        assert self.service.consumer is not None
        self.applier = self.service.consumer.applier
        self._keys = keys
        self._offsets = itertools.count()

    async def feed(self, events: Sequence[Envelope[Any]]) -> None:
        """Apply the events as the consumer does: decode, inbox, waves, handlers, one transaction."""
        await self.applier.apply([self._record(encode(event)) for event in events])
        assert await self.runtime.database["dead_letters"].count_documents({}) == 0
        await self.settle()

    async def settle(self) -> None:
        """Work out what follows of the events, as a loop of the running service does."""
        place = await self.coverage.place()
        if place is None:
            return

        async def some(work: UnitOfWork) -> int:
            return await self.coverage.settle(place, work.session)

        while await self.runtime.outbox.transact(some):
            pass

    async def get(
        self, path: str, *, by: str | None = "*", scope: str = "analytics:read", **query: str
    ) -> Any:
        """The answer to a caller whose unit is `by`."""
        # From the beginning of time: the service's clock stands still, the mint's does not.
        token = self._keys.mint(scope, by, iat=0, nbf=0)
        headers = {"Authorization": f"Bearer {token}"}
        transport = httpx2.ASGITransport(self.service.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://analytics") as client:
            return await client.get(path, params=query, headers=headers)

    async def ok(self, path: str, **query: str) -> Any:
        answer = await self.get(path, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def _record(self, message: Message) -> Record:
        place = Partition(message.topic, 0)
        return Record(place, next(self._offsets), message.key, message.value, message.headers, 0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime.now(UTC))  # before a token of now expires


@asynccontextmanager
async def answering(mongo_uri: str, name: str, keys: Keys, clock: Clock) -> AsyncIterator[Analytics]:
    """A service with an empty database of this name, which is emptied or dropped afterwards."""
    settings = AnalyticsSettings(**base_settings(mongo_uri, "127.0.0.1:9", name, keys))
    made = Analytics(Core(Runtime(settings, clock=clock), settings), keys)
    await made.service.migrate()
    shape = await shape_of(made.runtime.client, name)
    yield made
    await release(settings, shape)
    made.runtime.close()


@pytest_asyncio.fixture
async def analytics(mongo_uri: str, keys: Keys, clock: ManualClock) -> AsyncIterator[Analytics]:
    """Empty for this test."""
    async with answering(mongo_uri, a_database(mongo_uri, "analytics"), keys, clock) as made:
        yield made
