"""The base of every benchmark: a fresh MongoDB and broker, and topics filled with real events."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from infra.kafka.topics import load_topics
from infra.local.errors import LocalError
from infra.local.keys import Keys
from infra.local.processes import Child, tail
from infra.local.services import Surroundings
from infra.local.stack import LocalStack
from services.shared.clock import SystemClock
from services.shared.contracts.base import Envelope
from services.shared.contracts.members import MemberJoined
from services.shared.contracts.vocabulary import Gender
from services.shared.ids import new_id
from services.shared.messaging import KafkaBroker, Message, TopicSpec, create_topics, encode
from tests.fixtures.poison import TRACE

ROOT = Path(__file__).parents[2]
UNITS = [f"BR-D{d}-B{b}" for d in range(38) for b in range(14)]
"""532 blocks, as in Bihar, so that joins spread over units realistically."""
LARGEST_RECORD = 20 * 1024 * 1024
"""Bytes; the poison bench has records larger than any real topic accepts."""


@dataclass(frozen=True)
class Environment:
    """`full` selects the large sizes; without it those of CI. `mongod` is a process id."""

    mongo: str
    kafka: str
    keys: Keys
    directory: Path
    broker: str
    mongod: int
    full: bool

    def settings(self, prefix: str) -> dict[str, str]:
        """The SANGATHAN_* variables of a groups service; `prefix` keeps one measurement's data and topics
        apart."""
        around = Surroundings({"groups": 0}, self.mongo, self.kafka, self.keys, static_members=False)
        return {
            **around.environment("groups", "groups"),
            "SANGATHAN_KAFKA_PREFIX": prefix,
            "SANGATHAN_MONGO_DATABASE": prefix.rstrip("."),
        }


@asynccontextmanager
async def environment(*, full: bool, broker: str) -> AsyncIterator[Environment]:
    with tempfile.TemporaryDirectory(prefix="sangathan-bench-") as directory:
        async with LocalStack(Path(directory), services=(), broker=broker, restart=False) as stack:
            mongod = stack.processes["mongo"].pid
            yield Environment(stack.mongo, stack.kafka, stack.keys, Path(directory), broker, mongod, full)


async def new_topics(env: Environment, *names: str) -> str:
    """Create empty topics, all or those named, under a new prefix, which is returned."""
    prefix = f"bench{secrets.token_hex(4)}."
    topics = [t for t in load_topics(brokers=1) if not names or t.name in names]
    config = {"max.message.bytes": str(LARGEST_RECORD)}
    await create_topics(env.kafka, [TopicSpec(prefix + t.name, t.partitions, 1, config) for t in topics])
    return prefix


@asynccontextmanager
async def process(
    env: Environment, name: str, *command: str, variables: Mapping[str, str], python: str = sys.executable
) -> AsyncIterator[Child]:
    """A Python process with the repository on its path, killed at the end.

    Raises: `LocalError` with its last words when it died meanwhile.
    """

    async def ready() -> bool:
        return True

    path = {**os.environ, **variables, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": ""}
    child = Child(name, [python, *command], env.directory / f"{name}.log", ready, env=path, restart=False)
    await child.start()
    try:
        yield child
    finally:
        died = bool(child.exit_codes)
        child.kill()
        await child.stop()
    if died:
        raise LocalError(f"{name} died:\n{tail(child.log_file, 20)}")


def healthy(count: int) -> Iterator[Message]:
    """`member.joined` events, one per member, spread over the units."""
    clock = SystemClock()
    for n in range(count):
        yield encode(Envelope(new_id(), 1, clock.now(), "bench", TRACE, joined(n)))


async def fill(env: Environment, prefix: str, messages: Iterable[Message]) -> None:
    producer = await KafkaBroker(env.kafka, client_id="bench", prefix=prefix).producer()
    waiting = iter(messages)
    while chunk := list(islice(waiting, 1000)):
        await producer.publish(chunk)
    await producer.stop()


def joined(n: int) -> MemberJoined:
    return MemberJoined(
        member_id=new_id(),
        unit=UNITS[n % len(UNITS)],
        gender=Gender.FEMALE if n % 2 else Gender.MALE,
        language="hi",
        platforms=("whatsapp",),
        joined_at=SystemClock().now(),
        channels=("whatsapp",),
    )


async def timed_until(
    done: Callable[[], Awaitable[int]], count: int, began: float, *, seconds: float = 180
) -> float:
    """Seconds from `began` until `done()` reaches `count`.

    Raises: `TimeoutError`: a benchmark that does not finish has no figure.
    """
    while await done() < count:
        if time.perf_counter() - began > seconds:
            raise TimeoutError(f"{await done()} of {count} after {seconds} s")
        await asyncio.sleep(0.01)
    return time.perf_counter() - began


async def timed_until_true(done: Callable[[], Awaitable[bool]], *, seconds: float) -> float:
    """Seconds until `done()`. Raises: `TimeoutError`."""

    async def as_number() -> int:
        return int(await done())

    return await timed_until(as_number, 1, time.perf_counter(), seconds=seconds)
