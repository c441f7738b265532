from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest_asyncio

from infra.local.keys import Keys
from services.groups.app import build
from services.groups.settings import GroupsSettings
from tests.fixtures.apps import GROUPS_KEYS, Running, lent_settings, running
from tests.fixtures.kept import Kept


def serving(mongo_uri: str, kafka_bootstrap: str, keys: Keys) -> AbstractAsyncContextManager[Running]:
    """The groups service with groups of 5 seats."""
    settings = GroupsSettings(
        **lent_settings(mongo_uri, kafka_bootstrap, "groups", keys),
        **GROUPS_KEYS,
        group_capacity=5,
        waiting_room_seconds=0.5,
    )
    return running(build, settings, keys=keys, admin_scopes=["groups:*", "invites:read", "ops:*"])


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def kept(mongo_uri: str, kafka_bootstrap: str, keys: Keys) -> AsyncIterator[Kept]:
    kept = Kept(lambda: serving(mongo_uri, kafka_bootstrap, keys))
    yield kept
    await kept.close()


@pytest_asyncio.fixture(loop_scope="session")
async def groups(kept: Kept) -> AsyncIterator[Running]:
    """Empty for this test."""
    yield await kept.lend()
    await kept.take_back()


@pytest_asyncio.fixture(loop_scope="session")
async def own_groups(mongo_uri: str, kafka_bootstrap: str, keys: Keys) -> AsyncIterator[Running]:
    """Started for this test alone."""
    async with serving(mongo_uri, kafka_bootstrap, keys) as app:
        yield app
