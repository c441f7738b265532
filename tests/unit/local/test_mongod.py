"""The `mongod` child, real, and its error messages when it cannot start."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from infra.local import mongod as module
from infra.local.errors import LocalError
from infra.local.mongod import explain, mongo_uri, mongod
from infra.local.processes import ChildFailed


async def test_kept_data_is_served_again_on_another_port(tmp_path, ports):
    for expected in (1, 2):
        port = ports.take()
        child = mongod(tmp_path / "data", tmp_path / "log", port, restart=False)
        await child.start()
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
            mongo_uri(port), serverSelectionTimeoutMS=5000
        )
        async with client:
            await client.sample.things.insert_one({})
            assert await client.sample.things.count_documents({}) == expected
        await child.stop()


async def test_the_set_serves_transactions(mongo_uri, database_name):
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongo_uri)
    async with client, client.start_session() as session:
        things = client[database_name].things
        async with await session.start_transaction():
            await things.insert_one({"_id": 1}, session=session)
            assert await things.count_documents({}) == 0, "visible before the commit"
        assert await things.count_documents({}) == 1


async def test_a_missing_library_is_named_with_its_cure(tmp_path, ports, monkeypatch):
    broken = tmp_path / "mongod"
    broken.write_text(
        "#!/bin/sh\necho 'mongod: error while loading shared libraries: libcurl.so.4: no' >&2\nexit 127\n"
    )
    broken.chmod(0o755)
    monkeypatch.setattr(module, "find_mongod", lambda: broken)
    with pytest.raises(LocalError, match="apt-get install -y libcurl4 libssl3"):
        await mongod(tmp_path / "data", tmp_path / "log", ports.take()).start()


@pytest.mark.parametrize(
    ("code", "words", "expected"),
    [
        (1, "version `GLIBC_2.34' not found", "newer Linux"),
        (-signal.SIGILL, "", "AVX"),
        (48, "address already in use", "exited with code 48"),
    ],
)
def test_failures_are_explained(code, words, expected):
    assert expected in str(explain(ChildFailed("mongo", code, Path("log"), words)))
