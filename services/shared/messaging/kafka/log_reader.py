"""Reading topics from given offsets, outside any consumer group: nobody else is assigned anything by it, and
it commits nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.errors import KafkaError

from services.shared.errors import TransientError
from services.shared.messaging.broker import Partition, Record
from services.shared.messaging.kafka.consumer import KafkaConsumer
from services.shared.messaging.kafka.translation import TopicNames


class KafkaLogReader:
    """See `LogReader`. `consumer` reads the partitions that are assigned to `raw`."""

    def __init__(self, raw: Any, consumer: KafkaConsumer, prefix: str) -> None:
        self._raw = raw
        self._consumer = consumer
        self._partition = TopicNames(prefix).partition

    async def fetch(self, max_records: int, timeout: float) -> list[Record]:
        return await self._consumer.fetch(max_records, timeout)

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        self._consumer.rewind(offsets)

    async def bounds(self) -> dict[Partition, range]:
        tps: Sequence[Any] = list(self._raw.assignment())
        try:
            starts = await self._raw.beginning_offsets(tps)
            ends = await self._raw.end_offsets(tps)
        except (KafkaError, OSError) as error:
            raise TransientError(f"broker did not answer: {type(error).__name__}") from error
        return {self._partition(tp): range(starts[tp], ends[tp]) for tp in tps}

    async def stop(self) -> None:
        await self._consumer.stop()
