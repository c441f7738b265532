from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from infra.local.keys import Keys
from services.groups.app import build
from services.groups.settings import GroupsSettings
from tests.fixtures.apps import GROUPS_KEYS, Running, lent_settings, running


@pytest.fixture
async def groups(mongo_uri: str, kafka_bootstrap: str, keys: Keys) -> AsyncIterator[Running]:
    """The groups service with groups of 5 seats."""
    settings = GroupsSettings(
        **lent_settings(mongo_uri, kafka_bootstrap, "groups", keys),
        **GROUPS_KEYS,
        group_capacity=5,
        waiting_room_seconds=0.5,
    )
    async with running(build, settings, keys=keys, admin_scopes=["groups:*", "invites:read", "ops:*"]) as app:
        yield app
