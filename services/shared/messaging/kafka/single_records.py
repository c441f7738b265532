"""Reading single records again, by partition and offset, outside any consumer group."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaError

from services.shared.messaging.broker import Partition, Reading, Record
from services.shared.messaging.kafka.faults import fetch_reason
from services.shared.messaging.kafka.translation import TopicNames

log = structlog.get_logger(__name__)

READ_SECONDS: Final = 5.0
"""How long a record may take to come."""


class SingleRecords:
    """`raw` is one of aiokafka's consumers without a group. It is used by one reader at a time."""

    def __init__(self, raw: Any, prefix: str) -> None:
        self._raw = raw
        self._names = TopicNames(prefix)

    async def read(self, places: Sequence[tuple[Partition, int]]) -> Reading:
        """See `Broker.read`."""
        by_partition: dict[TopicPartition, list[int]] = {}
        for partition, offset in places:
            by_partition.setdefault(self._names.topic_partition(partition), []).append(offset)
        found: dict[tuple[Partition, int], Record] = {}
        unanswered: list[tuple[Partition, int]] = []
        for _, of_topic in groupby(sorted(by_partition), key=lambda tp: tp.topic):
            limits = await self._limits_of(list(of_topic))
            for tp in limits:
                records, late = await self._read_partition(tp, by_partition[tp], limits[tp])
                found |= {(record.partition, record.offset): record for record in records}
                unanswered += [(self._names.partition(tp), offset) for offset in late]
        return Reading([found[place] for place in places if place in found], unanswered)

    async def _limits_of(self, tps: Sequence[TopicPartition]) -> dict[TopicPartition, range | None]:
        """The offsets that each of these partitions of one topic has; None if the broker does not say."""
        self._raw.assign(tps)
        try:
            starts = await self._raw.beginning_offsets(tps)
            ends = await self._raw.end_offsets(tps)
        except (KafkaError, OSError):
            return dict.fromkeys(tps)
        return {tp: range(starts[tp], ends[tp]) for tp in tps}

    async def _read_partition(
        self, tp: TopicPartition, offsets: Sequence[int], there: range | None
    ) -> tuple[list[Record], Sequence[int]]:
        """The records, and the offsets that are still unanswered: the first that does not come within
        `READ_SECONDS` or cannot be read, and all after it."""
        if there is None:
            return [], offsets
        self._raw.assign([tp])
        found: list[Record] = []
        for n, offset in enumerate(offsets):
            if offset not in there:
                continue
            self._raw.seek(tp, offset)
            try:
                fetched = await self._raw.getmany(tp, timeout_ms=int(READ_SECONDS * 1000), max_records=1)
            except ConsumerStoppedError:
                raise
            except Exception as error:  # a codec raises whatever it likes
                topic, number = self._names.partition(tp)
                reason = fetch_reason(error)
                log.warning("record.unreadable", topic=topic, partition=number, offset=offset, reason=reason)
                return found, offsets[n:]
            if not fetched:
                return found, offsets[n:]
            found += [self._names.record(tp, raw) for raw in fetched[tp] if raw.offset == offset]
        return found, ()
