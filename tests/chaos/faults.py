"""The faults, one function each: causes the fault, waits until it has fired, ends it, returns how often it
fired."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx2
from pymongo import AsyncMongoClient

from infra.local.processes import Child
from infra.local.services import SERVICES
from services.shared.messaging import KafkaBroker, Message
from tests.chaos.scene import Scene, Strike
from tests.fixtures.metrics import families
from tests.fixtures.poison import NULL, POISON, changed

FIRE_SECONDS = 45
FROZEN_SECONDS = 30
SESSION_SECONDS = 10
"""A consumer that is silent for longer loses its partitions (services/shared/messaging/kafka/client.py)."""
CONSUMERS = ("groups", "notifications", "analytics")
PRODUCERS = ("members", "groups", "notifications")
TAKING_STEP = {"effect": SERVICES, "produce": PRODUCERS, "delete": PRODUCERS, "offsets": CONSUMERS}
"""The services that have a step: members consumes nothing, analytics publishes nothing."""
TOPICS = ("sangathan.members", "sangathan.groups", "sangathan.notifications")
READS = {"groups": 2, "notifications": 2, "analytics": 3}
"""How many of these topics each consumer reads."""


async def until(condition: Callable[[], bool], what: str, seconds: float = FIRE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never fired: {what}"
        await asyncio.sleep(0.02)


# -- kill -9 of each service at each step ------------------------------------------------------------------


def killed_at(step: str) -> Strike:
    """Kill all services that have this step at once: each also loses those it depends on."""

    async def strike(scene: Scene) -> int:
        names = TAKING_STEP[step.partition(".")[0]]
        before = {name: kills(scene, name) for name in names}
        await asyncio.gather(*(order(scene, name, step, "SIGKILL") for name in names))
        for name in names:
            await until(lambda name=name: kills(scene, name) == before[name] + 1, f"{name} at {step}")  # type: ignore[misc]
        return len(names)

    return strike


async def order(scene: Scene, service: str, step: str, blow: str) -> None:
    """Give the order and wait until it was carried out."""
    file = scene.orders / service
    file.write_text(f"{step} {blow}")
    try:
        await until(lambda: not file.exists(), f"{service} at {step}")
    finally:
        file.unlink(missing_ok=True)


def kills(scene: Scene, service: str) -> int:
    return sum(child.exit_codes.count(-signal.SIGKILL) for child in processes(scene, service))


def processes(scene: Scene, service: str) -> list[Child]:
    return [child for name, child in scene.stack.processes.items() if name.split("-")[0] == service]


# -- MongoDB -----------------------------------------------------------------------------------------------


async def primary_killed(scene: Scene) -> int:
    async with mongo(scene) as client:
        address = (await client.admin.command("hello"))["primary"]
        [child] = [c for c in processes(scene, "mongo") if address.rpartition(":")[2] in c.command]
        child.kill()
        await until(lambda: child.exit_codes.count(-signal.SIGKILL) > 0, "kill -9 of the primary")
        await asyncio.sleep(3)
    return 1


async def stepdown(scene: Scene) -> int:
    async with mongo(scene) as client:
        for _ in range(2):
            before = (await client.admin.command("hello"))["primary"]
            await client.admin.command("replSetStepDown", 10, secondaryCatchUpPeriodSecs=5)
            deadline = time.monotonic() + FIRE_SECONDS
            while (await client.admin.command("hello"))["primary"] == before:
                assert time.monotonic() < deadline, "never fired: another primary"
                await asyncio.sleep(0.1)
            await asyncio.sleep(2)
    return 2


async def commit_replies_lost(scene: Scene) -> int:
    """MongoDB commits, but the client does not learn it."""
    async with mongo(scene) as client:
        fired = 0
        for service in SERVICES:
            data = {
                "failCommands": ["commitTransaction"],
                "appName": f"sangathan-{service}",
                # WriteConcernFailed: committed on this node, and perhaps nowhere else.
                "writeConcernError": {"code": 64, "errmsg": "the reply was lost"},
            }
            set_ = {"configureFailPoint": "failCommand", "mode": {"times": 3}, "data": data}
            begun = await client.admin.command(set_)
            wait = {"waitForFailPoint": "failCommand", "timesEntered": begun["count"] + 3}
            # Raises: `ExecutionTimeout` when it never fired.
            await client.admin.command(wait | {"maxTimeMS": FIRE_SECONDS * 500})
            fired += 3
    return fired


def mongo(scene: Scene) -> AsyncMongoClient[dict[str, Any]]:
    return AsyncMongoClient(scene.stack.mongo)


# -- the broker --------------------------------------------------------------------------------------------


async def broker_frozen(scene: Scene) -> int:
    child = scene.stack.processes["kafka"]
    read = scene.ledger.records
    child.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(2)
        frozen_at = scene.ledger.records
        await asyncio.sleep(FROZEN_SECONDS - 2)
        assert scene.ledger.records == frozen_at >= read, "never fired: the broker went on"
    finally:
        child.signal(signal.SIGCONT)
    return 1


async def broker_killed(scene: Scene) -> int:
    child = scene.stack.processes["kafka"]
    before = child.exit_codes.count(-signal.SIGKILL)
    child.kill()
    await until(lambda: child.exit_codes.count(-signal.SIGKILL) == before + 1, "kill -9 of the broker")
    await child.wait_ready(60)
    return 1


async def offset_commits_lost(scene: Scene) -> int:
    """The broker stores the offsets, but the consumer does not learn it."""
    await asyncio.gather(*(order(scene, name, "offsets.after", "lose") for name in CONSUMERS))
    return len(CONSUMERS)


# -- consumer groups ---------------------------------------------------------------------------------------


async def rebalance_storm(scene: Scene) -> int:
    """An extra consumer joins each group, receives partitions, and leaves without work done, again and
    again."""

    async def storm(group: str) -> int:
        broker = KafkaBroker(scene.stack.kafka, client_id="stranger")
        taken = 0
        for _ in range(4):
            stranger = await broker.consumer(group, list(TOPICS[: 1 if group == "groups" else 3]))
            await asyncio.sleep(1)
            taken += bool(stranger.assignment())
            await stranger.stop()
        return taken

    taken = await asyncio.gather(*(storm(group) for group in CONSUMERS))
    assert all(taken), f"never fired: no partition changed hands: {taken}"
    return sum(taken)


async def zombie_consumer(scene: Scene) -> int:
    """Freeze a consumer with a batch in hand until another has its partitions; then it continues with its
    batch."""
    return await _zombie(scene, "effect.before")


async def zombie_relay(scene: Scene) -> int:
    """Freeze a relay between acknowledgement and delete until another holds its lease; then it deletes."""
    return await _zombie(scene, "produce.after")


async def _zombie(scene: Scene, step: str) -> int:
    await order(scene, "groups", step, "SIGSTOP")
    children = processes(scene, "groups")
    [frozen] = [child for child in children if is_stopped(child.pid)]
    [other] = [child for child in children if child is not frozen]
    try:
        await asyncio.sleep(SESSION_SECONDS + 5)
        await _taken_over(scene, other.name)
        assert is_stopped(frozen.pid), "the zombie woke up by itself"
    finally:
        frozen.signal(signal.SIGCONT)
    return 1


async def _taken_over(scene: Scene, name: str) -> None:
    """Wait until this process has all partitions and the lease of the relay."""
    deadline = time.monotonic() + FIRE_SECONDS
    async with httpx2.AsyncClient(trust_env=False) as client:
        while True:
            text = (await client.get(f"{scene.stack.urls[name]}/metrics")).text
            has = {s.name: s.value for family in families(text) for s in family.samples if not s.labels}
            consumes = (
                has["sangathan_consumer_assigned_partitions"] == has["sangathan_consumer_topic_partitions"]
            )
            if consumes and has["sangathan_relay_leader"] == 1:
                return
            assert time.monotonic() < deadline, f"never fired: {name} has not taken over"
            await asyncio.sleep(0.3)


def is_stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


# -- input -------------------------------------------------------------------------------------------------


async def poison(scene: Scene) -> int:
    """Bad records among good ones in every topic: each becomes one dead letter per reader, with its
    reason."""
    broker = KafkaBroker(scene.stack.kafka, client_id="poisoner")
    producer = await broker.producer()
    rounds, share, reasons = 10, 5, Counter[str]()
    for n in range(rounds):
        # Not all kinds at once: so many in a row would open the fuse.
        bad = [*POISON[n % share :: share], ("too_large", changed(value=b"x" * 1_000_000))]
        await producer.publish([moved(make(), topic) for topic in TOPICS for _, make in bad])
        reasons.update(reason for reason, _ in bad)
        await asyncio.sleep(0.7)
    await producer.stop()
    scene.poisoned += reasons.total()
    for service, topics in READS.items():
        deadline = time.monotonic() + FIRE_SECONDS
        while await scene.letters(service) != scene.poisoned * topics:
            assert time.monotonic() < deadline, f"{service}: {await scene.letters(service)} letters"
            await asyncio.sleep(0.3)
        letters = [x async for x in scene.api.pages(service, "/v1/ops/dead-letters", state="dead")]
        assert Counter(x["reason"] for x in letters) == {why: n * topics for why, n in reasons.items()}
        assert len({x["id"] for x in letters}) == len(letters)
    return reasons.total() * len(TOPICS)


def moved(message: Message, topic: str) -> Message:
    value = None if message.value == NULL else message.value
    return Message(topic, message.key, value, message.headers)  # type: ignore[arg-type]  # null: we never publish it


# -- stops and load ----------------------------------------------------------------------------------------


async def sigterm(scene: Scene) -> int:
    """SIGTERM each process in turn; it must be gone within 10 s with code 0."""
    children = [child for name in SERVICES for child in processes(scene, name)]
    for child in children:
        ends = len(child.exit_codes)
        child.signal(signal.SIGTERM)
        await until(lambda child=child, ends=ends: len(child.exit_codes) > ends, child.name, 10)  # type: ignore[misc]
        assert child.exit_codes[-1] == 0, f"{child.name}: {child.exit_codes[-1]}"
    return len(children)


async def overload(scene: Scene) -> int:
    """Three times as many requests as members admits: it answers 429 with Retry-After, and accepts the
    rest."""
    shed = 0
    limits = httpx2.Limits(max_connections=3 * IN_FLIGHT)
    headers = {"Authorization": f"Bearer {scene.stack.token}"}
    async with httpx2.AsyncClient(headers=headers, limits=limits, timeout=60, trust_env=False) as client:

        async def join() -> None:
            nonlocal shed
            for person in crowd:
                answer = await client.post(f"{scene.stack.urls['members']}/v1/members", json=person)
                if answer.status_code == 201:
                    scene.accepted.add(answer.json()["id"])
                else:
                    assert answer.status_code == 429, answer.text
                    assert int(answer.headers["retry-after"]) >= 1
                    shed += 1

        crowd = (next(scene.crowd) for _ in range(600))
        await asyncio.gather(*(join() for _ in range(3 * IN_FLIGHT)))
    assert shed, "never fired: nothing was shed"
    return shed


IN_FLIGHT = 32
ENVIRONMENT: Mapping[str, Mapping[str, str]] = {"members": {"SANGATHAN_MAX_IN_FLIGHT": str(IN_FLIGHT)}}

FAULTS: Mapping[str, Callable[[Scene], Awaitable[int]]] = {
    "kill -9 before the effect is written": killed_at("effect.before"),
    "kill -9 after the effect is written": killed_at("effect.after"),
    "kill -9 before the produce": killed_at("produce.before"),
    "kill -9 after the acknowledgement": killed_at("produce.after"),
    "kill -9 after the outbox rows are deleted": killed_at("delete.after"),
    "kill -9 before the offsets are committed": killed_at("offsets.before"),
    "kill -9 after the offsets are committed": killed_at("offsets.after"),
    "kill -9 of the primary mongod": primary_killed,
    "stepdown of the primary, twice": stepdown,
    "commit replies of MongoDB lost": commit_replies_lost,
    "broker frozen for 30 s": broker_frozen,
    "kill -9 of the broker": broker_killed,
    "replies to offset commits lost": offset_commits_lost,
    "rebalance storm": rebalance_storm,
    "zombie consumer": zombie_consumer,
    "zombie relay": zombie_relay,
    "poison in every topic": poison,
    "SIGTERM of every process": sigterm,
    "overload, three times": overload,
}

NOT_EMBEDDED: Mapping[str, str] = {
    "kill -9 of the broker": "it loses what it acknowledged in the last second",
    "rebalance storm": "its groups hand over slowly",
    "zombie consumer": "it never expires a silent member",
    "zombie relay": "it never expires a silent member",
}
"""Faults that the embedded broker cannot pass."""
