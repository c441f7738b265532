"""Stopping a process: a signal counts from the first instant, and the exit is in time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from infra.local.keys import Keys
from infra.local.mongod import mongo_uri as uri_of
from infra.local.mongod import mongod
from infra.local.ports import Ports
from tests.fixtures.apps import GROUPS_KEYS, base_settings

SIGNALLED = """
import os, signal, sys
import uvicorn
from services.shared.http import draining
from services.shared.runtime import composition, lifecycle
from services.groups.app import build
from services.groups.settings import GroupsSettings

def signalled(function):
    def call(*args, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return function(*args, **options)
    return call

moment = sys.argv[1]
if moment == "logs":
    lifecycle.configure_logs = signalled(lifecycle.configure_logs)
elif moment == "build":
    build = signalled(build)
elif moment == "server":
    draining.DrainingServer.run = signalled(draining.DrainingServer.run)
elif moment == "migrations":
    composition.migrate = signalled(composition.migrate)
lifecycle.serve(GroupsSettings.load(), build)
"""


def environment(base: dict[str, Any], **more: object) -> dict[str, str]:
    keys = {"SANGATHAN_MASTER_KEYS": json.dumps(GROUPS_KEYS["master_keys"])}
    return {
        **os.environ,
        **keys,
        **{f"SANGATHAN_{k.upper()}": str(v) for k, v in {**base, **more}.items()},
    }


@pytest.mark.heavy
async def test_a_signal_at_any_moment_of_the_start_is_heeded(
    mongo_uri: str, kafka_bootstrap: str, database_name: str, keys: Keys, ports: Ports
) -> None:
    base = base_settings(mongo_uri, kafka_bootstrap, database_name, keys)

    async def exit_status(moment: str) -> int:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SIGNALLED, moment), env=environment(base, http_port=ports.take())
        )
        try:
            return await asyncio.wait_for(child.wait(), 30)
        finally:
            if child.returncode is None:
                child.kill()

    moments = ["logs", "build", "server", "migrations"]
    # One after another: how long a process may take to stop is measured.
    assert [await exit_status(moment) for moment in moments] == [0] * len(moments)


@asynccontextmanager
async def service(settings: dict[str, str], port: int, output: Path) -> AsyncIterator[Any]:
    with output.open("wb") as file:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.groups"), env=settings, stdout=file, stderr=file
        )
    try:
        async with httpx2.AsyncClient(trust_env=False) as http, asyncio.timeout(30):
            while True:
                try:
                    if (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                        break
                except httpx2.HTTPError:
                    pass
                assert child.returncode is None, f"see {output}"
                await asyncio.sleep(0.1)
        yield child
    finally:
        if child.returncode is None:
            child.kill()


@pytest.mark.heavy
@pytest.mark.parametrize("fault", ["frozen", "gone"])
async def test_a_process_whose_database_hangs_is_gone_in_time(
    kafka_bootstrap: str, database_name: str, keys: Keys, ports: Ports, tmp_path: Path, fault: str
) -> None:
    port = ports.take()
    database = mongod(tmp_path / "data", tmp_path / "mongo.log", port, restart=False)
    await database.start()
    try:
        base = base_settings(uri_of(port), kafka_bootstrap, database_name, keys)
        http_port = ports.take()
        # The promise: 1 s for the loops, 2 s for requests, 1.5 s for the rest.
        settings = environment(base, http_port=http_port, stop_seconds=1)
        async with service(settings, http_port, tmp_path / "output") as child:
            os.kill(database.pid, signal.SIGSTOP if fault == "frozen" else signal.SIGKILL)
            await asyncio.sleep(1)
            began = time.monotonic()
            child.send_signal(signal.SIGTERM)
            await asyncio.wait_for(child.wait(), 15)
            assert time.monotonic() - began < 5.5
    finally:
        with suppress(ProcessLookupError):
            os.kill(database.pid, signal.SIGKILL)
        await database.stop()
