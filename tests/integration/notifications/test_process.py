"""The service as it is run: a process with settings from its environment, killed and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio

from infra.kafka.topics import load_topics
from infra.local.keys import AUDIENCE, ISSUER, Keys
from infra.local.ports import Ports
from services.notifications.core.domain import State
from services.notifications.settings import NotificationsSettings
from services.shared.clock import ManualClock
from services.shared.contracts.base import Envelope, Event
from services.shared.ids import new_id
from services.shared.messaging import KafkaBroker, Record, TopicSpec, create_topics, encode
from tests.integration.notifications.conftest import MASTER_KEYS, START, Bench, assigned, invite, joined
from tests.integration.notifications.stand_ins import Peers, link_of

PERSONAL = ("आशा", "9876543210", "asha@example.org", "chat.whatsapp.com", "the-service-token")
CLAIM_SECONDS = 3


class Service:
    """`python -m services.notifications`; its output is kept in a file."""

    def __init__(self, environment: dict[str, str], output: Path, url: str) -> None:
        self._environment = environment
        self._output = output
        self._url = url
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, until: str = "/readyz") -> None:
        with self._output.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "services.notifications",
                env=self._environment,
                stdout=output,
                stderr=output,
            )
        async with asyncio.timeout(30), httpx2.AsyncClient(trust_env=False) as client:
            while True:
                with contextlib.suppress(httpx2.HTTPError):
                    if (await client.get(f"{self._url}{until}")).status_code == 200:
                        return
                assert self.process.returncode is None, self.said()
                await asyncio.sleep(0.1)

    async def end(self, how: signal.Signals) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(how)
        async with asyncio.timeout(10):
            return await self.process.wait()

    def said(self) -> str:
        return self._output.read_text()


@pytest_asyncio.fixture(loop_scope="session")
async def service(
    settings: NotificationsSettings, kafka_bootstrap: str, ports: Ports, keys: Keys, tmp_path: Path
) -> AsyncIterator[Service]:
    topics = [TopicSpec(settings.kafka_prefix + t.name, t.partitions, 1, {}) for t in load_topics(brokers=1)]
    await create_topics(kafka_bootstrap, topics)
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "sangathan_master_keys").write_text(json.dumps(MASTER_KEYS))
    port = ports.take()
    values = {
        "HTTP_PORT": str(port),
        "MONGO_URI": settings.mongo_uri,
        "MONGO_DATABASE": settings.database,
        "KAFKA_BOOTSTRAP": kafka_bootstrap,
        "KAFKA_PREFIX": settings.kafka_prefix,
        "JWKS": str(keys.jwks),
        "JWT_ISSUER": ISSUER,
        "JWT_AUDIENCE": AUDIENCE,
        "SECRETS_DIR": str(secrets),
        "MEMBERS_URL": settings.members_url,
        "GROUPS_URL": settings.groups_url,
        "SERVICE_TOKEN_FILE": str(settings.service_token_file),
        "CLAIM_SECONDS": str(CLAIM_SECONDS),
    }
    environment = {**os.environ, **{f"SANGATHAN_{name}": value for name, value in values.items()}}
    made = Service(environment, tmp_path / "output", f"http://127.0.0.1:{port}")
    await made.start()
    yield made
    await made.end(signal.SIGKILL)


@pytest.fixture
def bystander(settings: NotificationsSettings) -> Bench:
    """Looks at the database of the process; consumes and dispatches nothing itself."""
    return Bench(settings, ManualClock(START))


async def publish(bystander: Bench, bootstrap: str, *events: Envelope[Event]) -> None:
    broker = KafkaBroker(bootstrap, client_id="test", prefix=bystander.settings.kafka_prefix)
    producer = await broker.producer()
    await producer.publish([encode(event) for event in events])
    await producer.stop()


async def until_state(bystander: Bench, member: str, state: State) -> None:
    async with asyncio.timeout(20):
        while True:
            row = await bystander.database["notifications"].find_one({"member_id": member})
            if row is not None and row["state"] == state:
                return
            await asyncio.sleep(0.05)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_welcomes_through_kafka_without_a_word_of_who_it_was_and_stops_cleanly(
    service: Service, bystander: Bench, peers: Peers, kafka_bootstrap: str
):
    member, group = peers.add_member(), peers.add_group()
    peers.down, peers.status = {"members"}, 500
    await publish(bystander, kafka_bootstrap, joined(member), invite(group, 1), assigned(member, group))
    await until(lambda: "loop.retrying" in service.said())
    peers.down.clear()
    await until_state(bystander, member, State.SENT)
    n = await bystander.welcome(member)
    message = await bystander.recorded(n.id)
    assert message is not None
    assert link_of(group) in message["text"]

    broker = KafkaBroker(kafka_bootstrap, client_id="test", prefix=bystander.settings.kafka_prefix)
    consumer = await broker.consumer(f"reader-{new_id()}", ["sangathan.notifications"])
    published: list[Record] = []
    async with asyncio.timeout(20):
        while len(published) < 2:
            published += await consumer.fetch(10, 0.2)
    await consumer.stop()
    log = b"\n".join(value for r in published for value in (r.value or b"", *(v for _, v in r.headers)))

    assert await service.end(signal.SIGTERM) == 0
    said = service.said() + log.decode()
    assert n.id in said
    assert [word for word in PERSONAL if word in said] == []


@pytest.mark.heavy
async def test_killed_while_sending_it_sends_after_the_restart_once_the_claim_ran_out(
    service: Service, bystander: Bench, peers: Peers, kafka_bootstrap: str
):
    member, group = peers.add_member(), peers.add_group()
    peers.delay = 30.0
    try:
        await publish(bystander, kafka_bootstrap, joined(member), assigned(member, group, ready=True))
        await until_state(bystander, member, State.SENDING)
        assert await service.end(signal.SIGKILL) == -signal.SIGKILL
    finally:
        peers.delay = 0.0
    claimed = await bystander.welcome(member)
    assert (claimed.state, claimed.attempts) == (State.SENDING, ())
    # Not until /readyz: the broker may take its time to let a consumer in after one that died.
    await service.start(until="/livez")
    await until_state(bystander, member, State.SENT)
    n = await bystander.welcome(member)
    assert (len(n.attempts), n.sequence) == (1, 2)
    assert claimed.due_at is not None
    assert n.attempts[0].at >= claimed.due_at
