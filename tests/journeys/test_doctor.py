"""The doctor on the running system: all is well; then eight things break at once, and it names each with its
cure."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from bson.binary import Binary

from infra.local.stack import LocalStack
from services.shared.clock import SystemClock
from services.shared.database import Client, connect, database
from services.shared.messaging import Fuse, KafkaBroker, Message
from services.shared.operations.doctor import expected, stores
from services.shared.operations.doctor.access import Access
from services.shared.operations.doctor.facts import Store, Stored

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Visit:
    code: int
    findings: list[dict[str, str]]

    def wrong(self) -> list[str]:
        return [f"{f['area']}: {f['said']}" for f in self.findings if f["verdict"] == "wrong"]

    def areas(self, verdict: str) -> set[str]:
        return {f["area"] for f in self.findings if f["verdict"] == verdict}

    def says(self, part: str) -> bool:
        return any(part in said for said in self.wrong())


async def doctor(stack: LocalStack, **settings: str) -> Visit:
    """Run the doctor. `settings` are variables without their prefix."""
    command = ["-m", "services.shared.ops", "doctor", "--json", "--dir", str(stack.directory)]
    environment = {f"SANGATHAN_{name}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 120)
    return Visit(process.returncode or 0, [json.loads(line) for line in out.splitlines()])


async def until(stack: LocalStack, *parts: str) -> Visit:
    """Visit until all `parts` are reported: services notice within seconds, not at once."""
    deadline = time.monotonic() + 60
    while True:
        visit = await doctor(stack)
        if all(map(visit.says, parts)):
            return visit
        assert time.monotonic() < deadline, visit.wrong()


async def break_mongodb(client: Client) -> None:
    groups = database(client, "groups")
    await groups["groups"].drop_index("unit_1__id_1")
    await groups["migrations"].delete_one({"_id": "core-0001"})
    orphan = {"_id": Binary.from_uuid(uuid4()), "sealed": Binary(b"x")}
    await database(client, "members")["content_keys"].insert_one(orphan)
    await Fuse(database(client, "notifications"), SystemClock()).trip()


async def strand_an_event(client: Client) -> None:
    """Give the relay's lease to another holder, and leave a row that has waited for an hour."""
    members, now = database(client, "members"), datetime.now(UTC)
    lease = {"holder": "a ghost", "expires_at": now + timedelta(hours=1)}
    await members["leases"].update_one({"_id": "relay"}, {"$set": lease}, upsert=True)
    # After the last publish of a relay that still believes in its lease.
    await asyncio.sleep(6)
    row = {"_id": "stranded", "subject": "m", "sequence": 1, "topic": "sangathan.members", "value": b"{}"}
    await members["outbox"].insert_one({**row, "headers": {}, "at": now - timedelta(hours=1)})


async def shorten_a_topic(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        configs = {"retention.ms": "604800000"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)])
    finally:
        await admin.close()


async def poison(stack: LocalStack) -> None:
    """Publish a record of an unknown type: it becomes a dead letter of every reader."""
    producer = await KafkaBroker(stack.kafka, client_id="test").producer()
    await producer.publish([Message("sangathan.members", b"m", b"{}", (("ce_type", b"member.sang"),))])
    await producer.stop()


def cure(visit: Visit, part: str) -> str:
    [found] = [f["cure"] for f in visit.findings if f["verdict"] == "wrong" and part in f["said"]]
    return found


@pytest.mark.heavy
@pytest.mark.timeout(300)
async def test_every_fault_is_named_with_its_cure(tmp_path: Path) -> None:
    async with LocalStack(tmp_path, restart=False, replicas={"groups": 2}) as stack:
        client = connect(stack.mongo, app_name="test")
        healthy = await until_well(stack)
        assert {f["verdict"] for f in healthy.findings} == {"well", "skipped"}
        assert healthy.areas("skipped") - {"oplog"} == {"certificates", "alerts", "alertmanager"}
        await nothing_is_there_that_is_not_expected(stack)

        await break_mongodb(client)
        await poison(stack)
        await strand_an_event(client)
        await shorten_a_topic(stack.kafka, "sangathan.groups")
        stack.processes["analytics"].kill()

        visit = await until(
            stack,
            "groups.groups lacks the index unit 1, _id 1",
            "groups lacks migrations: core-0001",
            "members has 1 content keys whose data key is gone",
            "the fuse of notifications is open",
            "groups has 1 dead letters",
            "an event of members has waited",
            "sangathan.groups: retention.ms is 604800000, not -1",
            f"analytics at {stack.urls['analytics']} does not answer",
        )
        assert visit.code == 1
        # On a slow machine the consumer behind the fuse also lags by then.
        assert visit.areas("wrong") - {"lag"} == {
            "services",
            "outbox",
            "relay",
            "fuse",
            "dead letters",
            "topics",
            "migrations",
            "indexes",
            "vault keys",
        }, visit.wrong()
        assert "createIndex" in cure(visit, "lacks the index")
        assert "lease" in cure(visit, "an event of members")
        assert "ops fuse reset -s notifications" in cure(visit, "the fuse")
        assert "retention.ms=-1" in cure(visit, "retention.ms is")


async def until_well(stack: LocalStack) -> Visit:
    """Wait until all is well. A service's second process gets its partitions after it is ready."""
    deadline = time.monotonic() + 60
    while (visit := await doctor(stack)).code:
        assert time.monotonic() < deadline, visit.findings
    return visit


GENERATION = re.compile(r"[a-z_]+\.[0-9]+\.")
"""Collections of a projection's generation, which a build creates."""


async def nothing_is_there_that_is_not_expected(stack: LocalStack) -> None:
    """expected.json is derived without MongoDB: it must list every index that exists."""
    wanted = expected.load()
    seen = await stores.look(Access(mongo=stack.mongo), wanted, SystemClock())
    assert isinstance(seen, Store)
    for service, stored in seen.databases.items():
        assert isinstance(stored, Stored)
        own = {"key": [["_id", 1]]}
        found = {name: [i for i in made if i != own] for name, made in stored.indexes.items()}
        for name, indexes in found.items():
            if GENERATION.match(name):
                continue
            known = wanted.services[service].indexes.get(name, [])
            assert all(index in known for index in indexes), (service, name)
