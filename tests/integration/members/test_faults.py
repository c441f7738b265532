"""MongoDB goes away and comes back: callers are told to try again, and nothing is half done."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from infra.local.keys import Keys
from infra.local.mongod import mongo_uri as uri_of
from infra.local.mongod import mongod
from infra.local.ports import Ports
from tests.integration.members.conftest import a_person, serving, settings_for


@pytest.mark.heavy  # 20 s: a transaction is tried again until its deadline
async def test_without_mongodb_503(tmp_path: Path, ports: Ports, kafka_bootstrap: str, keys: Keys) -> None:
    port = ports.take()
    first = mongod(tmp_path / "data", tmp_path / "mongo.log", port, restart=False)
    await first.start()
    settings = settings_for(uri_of(port), kafka_bootstrap, keys)
    async with serving(settings, keys) as service:
        member = await service.register()
        await first.stop()
        started = time.monotonic()
        answers = await asyncio.gather(
            service.http.get(f"/v1/members/{member['id']}"),
            service.http.delete(f"/v1/members/{member['id']}"),
            *(service.post(a_person()) for _ in range(20)),
        )
        assert {answer.status_code for answer in answers} == {503}
        assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}
        assert all("retry-after" in answer.headers for answer in answers)
        assert time.monotonic() - started < 30, "twenty requests waited one after the other"
        second = mongod(tmp_path / "data", tmp_path / "mongo.log", port, restart=False)
        await second.start()
        assert (await service.http.get(f"/v1/members/{member['id']}")).json() == member
        await service.register()
        assert await service.db["members"].count_documents({}) == 2
    await second.stop()
