"""The members service on a real MongoDB and a real broker, empty for each test."""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, cast

import httpx2
import pytest
import pytest_asyncio

from infra.local.keys import Keys
from services.members.app import build
from services.members.settings import MembersSettings
from services.shared.contracts.base import Envelope, Event
from services.shared.database import Database, Document
from tests.fixtures.apps import Running, lent_settings, running
from tests.fixtures.kept import Kept

UNIT = "BR-SARAN-MARHAURA-101"
TOPIC = "sangathan.members"
SCOPES: Final = ["members:*", "contacts:read"]


def a_person(**changes: Any) -> dict[str, Any]:
    """A valid registration of somebody new."""
    return {
        "name": "Asha Devi",
        "phone": f"+9198{secrets.randbelow(10**8):08d}",
        "unit": UNIT,
        **changes,
    }


class Service:
    """A running service, and the steps that many tests take."""

    def __init__(self, app: Running) -> None:
        self.app = app
        self.http = app.http
        self.db: Database = app.runtime.database

    async def register(self, **changes: Any) -> Document:
        answer = await self.post(a_person(**changes))
        assert answer.status_code == 201, answer.text
        member: Document = answer.json()
        return member

    async def post(self, body: object, **headers: str) -> httpx2.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post("/v1/members", json=body, headers=named)

    async def stored(self, member_id: str) -> Document:
        row = await self.db["members"].find_one({"_id": member_id})
        assert row is not None
        return row

    async def events(self, count: int) -> list[Envelope[Event]]:
        return await self.app.published(TOPIC, count)

    async def log(self) -> list[Envelope[Event]]:
        return await self.app.log(TOPIC)

    async def nothing_written(self) -> bool:
        names = ("members", "outbox", "idempotency")
        return not any([await self.db[name].count_documents({}) for name in names])


def settings_for(mongo_uri: str, kafka_bootstrap: str, keys: Keys) -> MembersSettings:
    return MembersSettings(
        **lent_settings(mongo_uri, kafka_bootstrap, "members", keys),
        master_keys={"first": b64encode(secrets.token_bytes(96))},
        blind_index_key=b64encode(secrets.token_bytes(32)),
    )


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def kept(mongo_uri: str, kafka_bootstrap: str, keys: Keys) -> AsyncIterator[Kept]:
    def start() -> AbstractAsyncContextManager[Running]:
        settings = settings_for(mongo_uri, kafka_bootstrap, keys)
        return running(build, settings, keys=keys, admin_scopes=SCOPES)

    kept = Kept(start)
    yield kept
    await kept.close()


@pytest_asyncio.fixture(loop_scope="session")
async def service(kept: Kept) -> AsyncIterator[Service]:
    """Empty for this test."""
    yield Service(await kept.lend())
    await kept.take_back()


@pytest.fixture
def settings(
    request: pytest.FixtureRequest, mongo_uri: str, kafka_bootstrap: str, keys: Keys
) -> MembersSettings:
    """The settings of `service` if the test has it; else for a service that the test makes itself."""
    if "service" in request.fixturenames:
        service: Service = request.getfixturevalue("service")
        return cast(MembersSettings, service.app.runtime.settings)
    return settings_for(mongo_uri, kafka_bootstrap, keys)


@asynccontextmanager
async def serving(settings: MembersSettings, keys: Keys) -> AsyncIterator[Service]:
    async with running(build, settings, keys=keys, admin_scopes=SCOPES) as app:
        yield Service(app)


@pytest_asyncio.fixture(loop_scope="session")
async def own_service(mongo_uri: str, kafka_bootstrap: str, keys: Keys) -> AsyncIterator[Service]:
    """Started for this test alone."""
    async with serving(settings_for(mongo_uri, kafka_bootstrap, keys), keys) as service:
        yield service


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def empty(mongo_uri: str, kafka_bootstrap: str, keys: Keys) -> AsyncIterator[Service]:
    """Shared by the tests of a module that write nothing, which they assert."""
    async with serving(settings_for(mongo_uri, kafka_bootstrap, keys), keys) as service:
        yield service
