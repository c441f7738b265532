"""The stack without services: MongoDB, broker and topics, as the command `up` runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from pymongo import MongoClient

from infra.kafka.topics import load_topics
from infra.local.errors import LocalError
from infra.local.ports import is_free
from infra.local.stack import LocalStack

pytestmark = pytest.mark.heavy  # whole stacks, started and killed: a minute in all


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def topics_at(bootstrap: str) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        return set(await admin.list_topics())
    finally:
        await admin.close()


async def test_everything_runs_inside_the_block_and_nothing_after(tmp_path):
    async with LocalStack(tmp_path, services=()) as stack:
        assert json.loads((tmp_path / "stack.json").read_text()) == {
            "services": {},
            "processes": {},
            "kafka": stack.kafka,
            "mongo": stack.mongo,
            "jwks": str(tmp_path / "secrets" / "jwks.json"),
            "token": stack.token,
        }
        assert (tmp_path / "stack.json").stat().st_mode & 0o077 == 0
        assert {topic.name for topic in load_topics(1)} <= await topics_at(stack.kafka)
        pids = [child.pid for child in stack.processes.values()]
    assert not (tmp_path / "stack.json").exists()
    assert not [pid for pid in pids if is_running(pid)]


async def test_topics_are_there_again_after_the_broker_crashed(tmp_path):
    async with LocalStack(tmp_path, services=()) as stack:
        stack.processes["kafka"].kill()
        await stack.wait_ready()
        assert {topic.name for topic in load_topics(1)} <= await topics_at(stack.kafka)
        assert stack.processes["kafka"].restarts == 1


async def test_a_killed_service_consumes_again(tmp_path):
    async with LocalStack(tmp_path, services=("groups",)) as stack:
        stack.processes["groups"].kill()
        await stack.wait_ready()
        assert stack.processes["groups"].restarts == 1


async def test_two_stacks_run_side_by_side(tmp_path):
    wished = {"kafka": 19_092, "mongo": 17_017}
    async with (
        LocalStack(tmp_path / "a", services=(), ports=wished) as one,
        LocalStack(tmp_path / "a", services=(), ports=wished, or_sibling=True) as two,
    ):
        assert two.directory == tmp_path / "a-2"
        assert one.kafka != two.kafka
        assert one.mongo != two.mongo


async def test_data_is_kept_unless_told_otherwise(tmp_path):
    counts = []
    for fresh in (False, False, True):
        async with LocalStack(tmp_path, services=(), fresh=fresh) as stack:
            client: MongoClient[dict[str, Any]] = MongoClient(stack.mongo)
            with client:
                client.sample.things.insert_one({})
                counts.append(client.sample.things.count_documents({}))
    assert counts == [1, 2, 1]


async def test_a_service_that_cannot_start_takes_the_rest_down(tmp_path):
    stack = LocalStack(
        tmp_path, services=("groups",), env={"groups": {"SANGATHAN_HTTP_PORT": "not a number"}}
    )
    with pytest.raises(LocalError, match="groups exited with code 1 before it was ready"):
        async with stack:
            pass
    assert all(child.uptime == 0 for child in stack.processes.values())


def test_unknown_services_and_brokers_are_refused_before_anything_starts(tmp_path):
    with pytest.raises(LocalError, match="no such service: payments"):
        LocalStack(tmp_path, services=("payments",))
    with pytest.raises(LocalError, match="no such broker: rabbit; choose from embedded, kafka"):
        LocalStack(tmp_path, broker="rabbit")


COMMAND = """
import asyncio, sys
from infra.local.__main__ import _run, console
from infra.local.stack import LocalStack
from infra.local.status import watch
stack = LocalStack(sys.argv[1], services=(), broker="embedded")
_run(stack, lambda: watch(stack, console))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_stops_cleanly_on_a_signal(tmp_path, number):
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(tmp_path)], stderr=subprocess.PIPE, text=True
    ) as runner:
        facts = wait_for(tmp_path / "stack.json")
        runner.send_signal(number)
        runner.send_signal(number)
        assert runner.wait(30) == 0
        assert runner.stderr
        said = runner.stderr.read()
    assert "Traceback" not in said
    assert "stopping" in said
    assert is_free(int(facts["kafka"].rpartition(":")[2]))
    assert "kafka.json" in os.listdir(tmp_path / "data" / "kafka-embedded"), (
        "the broker was not stopped cleanly"
    )


def test_nothing_outlives_a_killed_command(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(tmp_path)], stderr=subprocess.DEVNULL
    ) as runner:
        port = int(wait_for(tmp_path / "stack.json")["kafka"].rpartition(":")[2])
        assert not is_free(port)
        runner.kill()
    deadline = time.monotonic() + 10
    while not is_free(port):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_for(file: Path) -> dict[str, str]:
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline, "the stack did not come up"
        time.sleep(0.05)
    facts: dict[str, str] = json.loads(file.read_text())
    return facts
