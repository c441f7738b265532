"""Our partitions and records, and aiokafka's."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from services.shared.messaging.broker import Partition, Record

STOP_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class TopicNames:
    """In the cluster, every topic of a deployment begins with its prefix (ADR 6)."""

    prefix: str

    def partition(self, tp: TopicPartition) -> Partition:
        return Partition(tp.topic.removeprefix(self.prefix), tp.partition)

    def topic_partition(self, partition: Partition) -> TopicPartition:
        return TopicPartition(self.prefix + partition.topic, partition.number)

    def record(self, tp: TopicPartition, raw: Any) -> Record:
        return Record(self.partition(tp), raw.offset, raw.key, raw.value, tuple(raw.headers), raw.timestamp)


async def stop(raw: Any) -> None:
    """Stop one of aiokafka's consumers, which may wait for a broker that does not answer."""
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        await asyncio.wait_for(raw.stop(), STOP_SECONDS)
