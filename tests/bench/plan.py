"""Resources for more joins, derived from the cost of one: the arithmetic of docs/capacity.md, which names
each formula."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from infra.local.services import SERVICES
from services.analytics.core.store import SLOTS
from tests.bench.capacity import Costs

BUSY = 0.6
"""The planned load of a process, as a share of a core: the rest is for catching up after a stop and for
peaks."""
REPLICAS = 3
"""Copies of all data, in Kafka and in MongoDB."""
SHARD_CORES = 8
SHARD_BYTES = 2e12
"""One shard's primary: cores, and bytes on disk, with which backups and resyncs still take hours."""
BROKER_CORES = 4
BROKER_BYTES = 4e12
CONSUMERS = SERVICES[1:]
PARTITIONS = 6
"""Partitions of each topic today (infra/kafka/topics.yaml)."""
STAGED = {"members": 1, "groups": 1, "notifications": 2}
"""Events of one join by the service that publishes them."""

Row = tuple[str, ...]


class Rate(NamedTuple):
    """Requirements of `joins` a second. `processes` is by service; `partitions` is per topic."""

    joins: int
    processes: dict[str, int]
    partitions: int
    shards: int
    brokers: int


def for_rate(costs: Costs, joins: int) -> Rate:
    cpu = costs.reading.processor
    processes = {s: max(2, math.ceil(joins * cpu[s] / BUSY)) for s in SERVICES}
    widest = max(processes[s] for s in CONSUMERS)
    return Rate(
        joins,
        processes,
        partitions=max(PARTITIONS, 1 << math.ceil(math.log2(widest))),
        shards=max(1, math.ceil(joins * cpu["mongod"] / (BUSY * SHARD_CORES))),
        brokers=max(REPLICAS, math.ceil(joins * cpu["Kafka"] * REPLICAS / (BUSY * BROKER_CORES))),
    )


def rate_rows(costs: Costs) -> Sequence[Row]:
    return [
        (
            f"{rate.joins:,}",
            *(str(rate.processes[s]) for s in SERVICES),
            str(rate.partitions),
            str(rate.shards),
            str(rate.brokers),
        )
        for rate in (for_rate(costs, joins) for joins in (10, 100, 1_000))
    ]


def limits(costs: Costs) -> Sequence[Row]:
    """The joins a second at which each resource is exhausted when planned for `BUSY`, the first limit
    first."""
    cpu = costs.reading.processor
    at = {"one process of members": BUSY / cpu["members"]}
    at |= {
        f"{PARTITIONS} processes of {s}, as many as partitions": BUSY * PARTITIONS / cpu[s] for s in CONSUMERS
    }
    at |= {f"one relay of {s}, {n} events a join": BUSY * costs.relay / n for s, n in STAGED.items()}
    at[f"{SLOTS} processes of analytics, as many as slots of its root counter"] = (
        BUSY * SLOTS / cpu["analytics"]
    )
    at[f"one mongod for all services, {SHARD_CORES} cores"] = BUSY * SHARD_CORES / cpu["mongod"]
    at[f"{REPLICAS} brokers, {BROKER_CORES} cores each"] = BUSY * BROKER_CORES / cpu["Kafka"]
    return [(what, f"{joins:,.0f}") for what, joins in sorted(at.items(), key=lambda each: each[1])]


def size_rows(costs: Costs) -> Sequence[Row]:
    """Per number of members: data and indexes on one node, all nodes, shards; the log on one broker and on
    all."""
    r = costs.reading
    stored = sum(r.data_bytes.values()) + sum(r.index_bytes.values())
    logged = sum(r.topic_bytes.values())
    return [
        (
            f"{members / 1e6:,.0f} M",
            _gb(members * stored),
            _gb(members * stored * REPLICAS),
            str(math.ceil(members * stored / SHARD_BYTES)),
            _gb(members * logged),
            _gb(members * logged * REPLICAS),
            str(max(REPLICAS, math.ceil(members * logged * REPLICAS / BROKER_BYTES))),
        )
        for members in (10e6, 100e6)
    ]


def _gb(size: float) -> str:
    return f"{size / 1e9:,.0f} GB"
