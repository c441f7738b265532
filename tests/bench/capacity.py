"""The cost of one join, end to end, and how draining scales with consumers: the tables of
docs/capacity.md."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from infra.local.services import SERVICES
from tests.bench import relay, scaling
from tests.bench.environment import Environment
from tests.bench.processor import cpu_seconds
from tests.bench.scaling import Scaled
from tests.bench.whole import Whole, whole

TOPICS = tuple(f"sangathan.{service}" for service in SERVICES[:3])
CHECKPOINT_SECONDS = 65.0
"""WiredTiger writes a checkpoint every 60 s; sizes on disk are those of the last one."""


@dataclass(frozen=True)
class Reading:
    """All counters at one moment: processor seconds by process; the rest by name."""

    processor: Mapping[str, float]
    mongod: Mapping[str, float]
    documents: Mapping[str, float]
    data_bytes: Mapping[str, float]
    index_bytes: Mapping[str, float]
    topic_bytes: Mapping[str, float]


@dataclass(frozen=True)
class Costs:
    """The fields of `reading` are per join. `drained` is by consuming service and number of its processes."""

    joins: int
    rate: float
    reading: Reading
    drained: Mapping[str, Mapping[int, Scaled]]
    relay: float
    """Events per second of a relay alone."""


async def measure(env: Environment) -> Costs:
    """Measure. Raises: `ValueError` on the embedded broker, whose files are not Kafka's."""
    if env.broker != "kafka":
        raise ValueError("the capacity bench needs --broker kafka")
    joins, events = (10_000, 20_000) if env.full else (1_000, 4_000)
    async with whole(env) as stack:
        await stack.join(joins // 5)  # warms up, and fills the pages that later joins extend
        before = await at_rest(stack, env)
        seconds = await stack.join(joins)
        worked = processor(stack)  # excludes the wait for the checkpoint
        after = replace(await at_rest(stack, env), processor=worked)
    drained = await scaling.measure(env)
    return Costs(
        joins, joins / seconds, per_join(before, after, joins), drained, await relay.publish(env, events)
    )


def processor(stack: Whole) -> dict[str, float]:
    processes = stack.stack.processes
    pids = {**stack.services, "mongod": processes["mongo"].pid, "Kafka": processes["kafka"].pid}
    return {name: cpu_seconds(pid) for name, pid in pids.items()}


async def at_rest(stack: Whole, env: Environment) -> Reading:
    """Read the counters after a checkpoint, including processor time."""
    await asyncio.sleep(CHECKPOINT_SECONDS if env.full else 2.0)
    status = await stack.client.admin.command("serverStatus")
    stats = {name: await stack.client[name].command("dbStats") for name in SERVICES}
    oplog = await stack.client.local.command("collStats", "oplog.rs")
    log = Path(stack.stack.directory) / "data" / "kafka-kafka" / "node-1" / "log"
    return Reading(
        processor=processor(stack),
        mongod={
            "documents inserted": status["metrics"]["document"]["inserted"],
            "documents updated": status["metrics"]["document"]["updated"],
            "documents deleted": status["metrics"]["document"]["deleted"],
            "transactions": status["transactions"]["totalCommitted"],
            "journal bytes": status["wiredTiger"]["log"]["log bytes written"],
            "oplog bytes": oplog["size"],
        },
        documents={name: stats[name]["objects"] for name in SERVICES},
        data_bytes={name: stats[name]["dataSize"] for name in SERVICES},
        index_bytes={name: stats[name]["indexSize"] for name in SERVICES},
        topic_bytes={topic: segments(log, topic) for topic in TOPICS},
    )


def segments(log: Path, topic: str) -> int:
    """Bytes of a topic's records, as its partitions' segments hold them."""
    return sum(file.stat().st_size for file in log.glob(f"{topic}-*/*.log"))


def per_join(before: Reading, after: Reading, joins: int) -> Reading:
    def of(name: str) -> dict[str, float]:
        old: Mapping[str, float] = getattr(before, name)
        new: Mapping[str, float] = getattr(after, name)
        return {key: (value - old[key]) / joins for key, value in new.items()}

    return Reading(**{name: of(name) for name in Reading.__dataclass_fields__})
