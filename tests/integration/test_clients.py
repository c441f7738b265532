"""The clients of notifications against the real services: their contract, and one bad id among good ones."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn
from prometheus_client import CollectorRegistry

from infra.local.keys import Keys
from infra.local.ports import Ports
from services.groups.app import build as build_groups
from services.groups.settings import GroupsSettings
from services.members.app import build as build_members
from services.members.settings import MembersSettings
from services.notifications.core.clients.groups import GroupsClient
from services.notifications.core.clients.members import MembersClient
from services.notifications.core.clients.service import ServiceClient
from services.notifications.core.metrics import NotificationMetrics
from services.shared.http.app import ServiceApp
from services.shared.ids import new_id
from services.shared.peers import ServiceToken
from tests.fixtures.apps import GROUPS_KEYS, base_settings, running
from tests.integration.groups.test_placement import joins, placed, tree

HOSTILE = ["not-an-id", "x" * 5000, "\x00", "../../etc/passwd", "' OR 1=1"]


@contextlib.asynccontextmanager
async def serving(app: ServiceApp, port: int) -> AsyncIterator[str]:
    """The address at which the started application answers."""
    config = uvicorn.Config(app, port=port, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


def client(name: str, url: str, keys: Keys, directory: Path) -> ServiceClient:
    file = directory / "service_token"
    file.write_text(keys.mint("contacts:read groups:read invites:read", "*"))
    return ServiceClient(name, url, ServiceToken(file), NotificationMetrics(CollectorRegistry()))


@pytest.mark.parametrize("count", [1, 40])
async def test_members_tells_of_consents_and_one_id_that_it_refuses_spoils_nothing(
    mongo_uri: str,
    kafka_bootstrap: str,
    database_name: str,
    keys: Keys,
    ports: Ports,
    tmp_path: Path,
    count: int,
):
    settings = MembersSettings(
        **base_settings(mongo_uri, kafka_bootstrap, database_name, keys),
        master_keys={"first": b64encode(secrets.token_bytes(96))},
        blind_index_key=b64encode(secrets.token_bytes(32)),
    )
    consent = {"purpose": "welcome", "channel": "sms", "notice": "1", "language": "hi"}
    async with running(build_members, settings, keys=keys, admin_scopes=["members:*"]) as members:
        registered = []
        for n in range(count):
            person = {"name": "Asha", "phone": f"+9198765{n:05d}", "unit": "BR-SARAN", "consents": [consent]}
            answer = await members.http.post("/v1/members", json=person)
            assert answer.status_code == 201, answer.text
            registered.append(answer.json()["id"])
        async with serving(members.app, ports.take()) as url:
            asking = MembersClient(client("members", url, keys, tmp_path))
            unknown = new_id()
            answers = await asking.contacts([*registered[:3], *HOSTILE, unknown, *registered[3:]])
            await asking.close()
    assert answers.failed == dict.fromkeys(HOSTILE, "peer_refused")
    assert answers.found.keys() == set(registered)
    contact = answers.found[registered[0]]
    assert (contact.active, contact.unit) == (True, "BR-SARAN")
    assert contact.consented("welcome") == {"sms"}
    assert contact.consented("broadcast") == frozenset()


async def test_groups_goes_on_without_an_id_that_it_refuses(
    mongo_uri: str, kafka_bootstrap: str, database_name: str, keys: Keys, ports: Ports, tmp_path: Path
):
    settings = GroupsSettings(**base_settings(mongo_uri, kafka_bootstrap, database_name, keys), **GROUPS_KEYS)
    async with running(
        build_groups, settings, keys=keys, admin_scopes=["groups:*", "invites:read"]
    ) as groups:
        await tree(groups, "BR-SARAN")
        await groups.publish(*joins(1))
        await placed(groups, 1)
        [group] = (await groups.http.get("/v1/groups")).json()["items"]
        async with serving(groups.app, ports.take()) as url:
            asking = GroupsClient(client("groups", url, keys, tmp_path))
            refused = ["a b", "x" * 65, "' OR 1=1"]
            answers = await asking.groups([*refused, group["id"], new_id()])
            await asking.close()
    assert answers.failed == dict.fromkeys(refused, "peer_refused")
    assert {id_: each.names for id_, each in answers.found.items()} == {group["id"]: group["name"]}
