"""What every benchmark stands on: a fresh MongoDB and broker, and topics filled with real events."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.kafka.topics import load_topics
from infra.local.keys import AUDIENCE, ISSUER, Keys
from infra.local.stack import LocalStack
from services.shared.clock import SystemClock
from services.shared.contracts.base import Envelope
from services.shared.contracts.members import MemberJoined
from services.shared.contracts.vocabulary import Gender
from services.shared.eventkit.broker import TopicSpec
from services.shared.eventkit.codec import encode
from services.shared.eventkit.kafka import KafkaBroker, create_topics
from services.shared.ids import new_id

UNITS = [f"BR-D{d}-B{b}" for d in range(38) for b in range(14)]
"""532 blocks, as Bihar has: joins spread over units as they do in life."""


@dataclass(frozen=True)
class Environment:
    mongo: str
    kafka: str
    keys: Keys

    def settings(self, prefix: str) -> dict[str, Any]:
        """For any service's settings; `prefix` keeps one measurement's data and topics apart."""
        return {
            "mongo_uri": self.mongo,
            "mongo_database": prefix.rstrip("."),
            "kafka_bootstrap": self.kafka,
            "kafka_prefix": prefix,
            "jwks": str(self.keys.jwks),
            "jwt_issuer": ISSUER,
            "jwt_audience": AUDIENCE,
        }


@asynccontextmanager
async def environment() -> AsyncIterator[Environment]:
    with tempfile.TemporaryDirectory(prefix="sangathan-bench-") as directory:
        async with LocalStack(Path(directory), services=(), restart=False) as stack:
            yield Environment(stack.mongo, stack.kafka, stack.keys)


async def new_topics(env: Environment) -> str:
    """Empty topics of their own; their prefix."""
    prefix = f"bench{secrets.token_hex(4)}."
    topics = [TopicSpec(prefix + t.name, t.partitions, 1) for t in load_topics(brokers=1)]
    await create_topics(env.kafka, topics)
    return prefix


async def fill(env: Environment, prefix: str, count: int) -> None:
    """Publish `count` `member.joined`, one a member, spread over the units."""
    clock = SystemClock()
    producer = await KafkaBroker(env.kafka, client_id="bench", prefix=prefix).producer()
    for start in range(0, count, 1000):
        await producer.publish(
            [
                encode(
                    Envelope(new_id(), 1, clock.now(), "bench", "00-" + "a" * 32 + "-" + "b" * 16 + "-01", e)
                )
                for e in (joined(n) for n in range(start, min(count, start + 1000)))
            ]
        )
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


@dataclass(frozen=True)
class Figure:
    """One rate of one contender, in units per second."""

    name: str
    rate: float


@dataclass(frozen=True)
class Ratio:
    """Ours against a named baseline measured in the same run. `goal` is the least ratio."""

    what: str
    ours: Figure
    baseline: Figure
    goal: float

    @property
    def value(self) -> float:
        return self.ours.rate / self.baseline.rate

    @property
    def met(self) -> bool:
        return self.value >= self.goal


def best(figures: Sequence[Figure]) -> Figure:
    """Of several runs of one contender: the one least disturbed by the machine."""
    return max(figures, key=lambda f: f.rate)
