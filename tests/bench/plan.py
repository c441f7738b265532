"""From the cost of one join to what more of them need: the arithmetic of docs/capacity.md, which names each formula."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from infra.local.services import SERVICES
from tests.bench.capacity import Costs

BUSY = 0.6
"""The share of a core that a process is planned to use: the rest is for catching up after a stop and for peaks."""
REPLICAS = 3
"""Copies of everything, in Kafka and in MongoDB."""
SHARD_CORES = 8
SHARD_BYTES = 2e12
"""Of one shard's primary: cores, and bytes on disk, with which backups and resyncs still take hours."""
BROKER_CORES = 4
BROKER_BYTES = 4e12
CONSUMERS = SERVICES[1:]

Row = tuple[str, ...]


class Rate(NamedTuple):
    """What `joins` a second need. Processes are by service; partitions are of each topic."""

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
        partitions=max(6, 1 << math.ceil(math.log2(widest))),
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


def size_rows(costs: Costs) -> Sequence[Row]:
    """For so many members: data and indexes on one node, all nodes, shards; the log on one broker and on all."""
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
