"""A one-node MongoDB replica set: transactions need a set, and one node is the smallest."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from infra.local.binaries import find_mongod
from infra.local.errors import LocalError
from infra.local.processes import Child, ChildFailed

HOST = "127.0.0.1"
_NOT_YET_INITIALIZED = 94  # error_codes.yml of MongoDB


def mongo_uri(port: int) -> str:
    """The URI for services: by set name, so that drivers follow a step-down."""
    return f"mongodb://{HOST}:{port}/?replicaSet=rs0&w=majority"


def mongod(data: Path, log_file: Path, port: int, *, restart: bool = True) -> Child:
    """A `mongod` keeping its files in `data`; ready once it is the writable primary of its own set."""
    data.mkdir(parents=True, exist_ok=True)
    command = [str(find_mongod()), "--dbpath", str(data), "--port", str(port), "--bind_ip", HOST]
    command += ["--replSet", "rs0", "--wiredTigerCacheSizeGB", "0.5", "--nounixsocket", "--quiet"]
    command += ["--setParameter", "diagnosticDataCollectionEnabled=false"]

    async def ready() -> bool:
        return await _is_primary(port)

    return Child("mongo", command, log_file, ready, restart=restart, explain=explain)


def explain(failure: ChildFailed) -> LocalError:
    """A start that failed for a reason we know, in words that say what to do; else the failure as it was."""
    if "error while loading shared libraries" in failure.last_words:
        return LocalError("mongod needs two system libraries: sudo apt-get install -y libcurl4 libssl3")
    if "GLIBC_" in failure.last_words:
        return LocalError(
            "mongod needs a newer Linux (Debian 12, Ubuntu 22.04 or later), or a mongod >= 6 on PATH"
        )
    if failure.code == -signal.SIGILL:
        return LocalError("mongod needs a processor with AVX (MongoDB 5.0 and later do)")
    return failure


async def _is_primary(port: int) -> bool:
    client: AsyncMongoClient[dict[str, Any]]
    with contextlib.suppress(PyMongoError):
        async with AsyncMongoClient(
            HOST, port, directConnection=True, serverSelectionTimeoutMS=500
        ) as client:
            hello = await client.admin.command("hello")
            if hello["isWritablePrimary"]:
                return True
            await _form_set(client, f"{HOST}:{port}")
    return False


async def _form_set(client: AsyncMongoClient[dict[str, Any]], address: str) -> None:
    """Initiate the set, or, on kept data that knew another port, tell the set its new address."""
    try:
        config = (await client.admin.command("replSetGetConfig"))["config"]
    except OperationFailure as failure:
        if failure.code != _NOT_YET_INITIALIZED:
            raise
        config = {"_id": "rs0", "members": [{"_id": 0, "host": address}]}
        await client.admin.command("replSetInitiate", config)
        return
    if config["members"][0]["host"] != address:
        config["members"][0]["host"] = address
        config["version"] += 1
        await client.admin.command("replSetReconfig", config, force=True)
