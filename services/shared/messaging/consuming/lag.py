"""The lag of a consumer, in records and in seconds.

Seconds are computed when they are read, from the records known to wait. So they keep growing while a batch is
retried, a handler hangs, the fuse is open or the broker is away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from services.shared.clock import Clock
from services.shared.messaging.broker import Partition, Record
from services.shared.messaging.metrics import ConsumerMetrics


class Lag:
    """The lag of one member of a group. A batch counts as waiting until its offsets are committed."""

    def __init__(self, topics: Sequence[str], clock: Clock, metrics: ConsumerMetrics) -> None:
        self._topics = topics
        self._clock = clock
        self._metrics = metrics
        self._records: Mapping[Partition, int] = {}
        self._waiting: dict[Partition, int] = {}
        """Timestamp, in milliseconds, of the oldest waiting record of each partition that has one."""
        for topic in topics:
            metrics.lag_seconds.labels(topic).set_function(partial(self.seconds, topic))

    @property
    def known(self) -> bool:
        """Whether any record is known to wait."""
        return bool(self._waiting)

    def seconds(self, topic: str) -> float:
        """Age of the oldest waiting record of the topic, by its timestamp; 0 when none waits."""
        oldest = min((at for p, at in self._waiting.copy().items() if p.topic == topic), default=None)
        return max(0.0, self._clock.now().timestamp() - oldest / 1000) if oldest is not None else 0.0

    def fetched(self, records: Sequence[Record]) -> None:
        """These records were fetched and wait now; in order within each partition."""
        self._waiting |= {record.partition: record.timestamp for record in reversed(records)}

    def consumed(self, records: Sequence[Record]) -> None:
        """These records are committed. If more waited at the last check, the next is at least as young as the
        last of these."""
        for partition, timestamp in {r.partition: r.timestamp for r in records}.items():
            if self._records.get(partition):
                self._waiting[partition] = timestamp
            else:
                self._waiting.pop(partition, None)

    def looked(self, lags: Mapping[Partition, int]) -> None:
        """Take the number of unfetched records of each assigned partition. Call it only between batches."""
        self._records = lags
        self._waiting = {p: at for p, at in self._waiting.items() if lags.get(p)}
        self._metrics.assigned.set(len(lags))
        by_topic = dict.fromkeys(self._topics, 0)  # a topic without assigned partitions has no lag here
        for partition, lag in lags.items():
            by_topic[partition.topic] += lag
        for topic, lag in by_topic.items():
            self._metrics.lag.labels(topic).set(lag)
