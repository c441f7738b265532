"""How far a consumer is behind, in records and in seconds.

Seconds are counted when they are asked for, from what the consumer knows to wait: they grow while a batch is retried, a
handler hangs, the fuse is open or the broker is away, since nothing has to happen for a clock to go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from services.shared.clock import Clock
from services.shared.messaging.broker import Partition, Record
from services.shared.messaging.metrics import ConsumerMetrics


class Lag:
    """Of one member of a group. A batch in hand waits until its offsets are committed."""

    def __init__(self, topics: Sequence[str], clock: Clock, metrics: ConsumerMetrics) -> None:
        self._topics = topics
        self._clock = clock
        self._metrics = metrics
        self._records: Mapping[Partition, int] = {}
        self._waiting: dict[Partition, int] = {}
        """Timestamp of the oldest record that waits, in milliseconds, of each partition where one does."""
        for topic in topics:
            metrics.lag_seconds.labels(topic).set_function(partial(self.seconds, topic))

    @property
    def known(self) -> bool:
        """Whether some record is known to wait."""
        return bool(self._waiting)

    def seconds(self, topic: str) -> float:
        """Age of the oldest record of the topic that waits, by its timestamp; 0 when none does."""
        oldest = min((at for p, at in self._waiting.copy().items() if p.topic == topic), default=None)
        return max(0.0, self._clock.now().timestamp() - oldest / 1000) if oldest is not None else 0.0

    def fetched(self, records: Sequence[Record]) -> None:
        """These wait now, in order within each partition."""
        self._waiting |= {record.partition: record.timestamp for record in reversed(records)}

    def consumed(self, records: Sequence[Record]) -> None:
        """These wait no more. Where more did when we last looked, the next is at least as young as the last of these."""
        for partition, timestamp in {r.partition: r.timestamp for r in records}.items():
            if self._records.get(partition):
                self._waiting[partition] = timestamp
            else:
                self._waiting.pop(partition, None)

    def looked(self, lags: Mapping[Partition, int]) -> None:
        """Records that wait beyond what was fetched, of each assigned partition. To be told when no batch is in hand."""
        self._records = lags
        self._waiting = {p: at for p, at in self._waiting.items() if lags.get(p)}
        self._metrics.assigned.set(len(lags))
        by_topic = dict.fromkeys(self._topics, 0)  # a topic that is no longer ours is no longer behind
        for partition, lag in lags.items():
            by_topic[partition.topic] += lag
        for topic, lag in by_topic.items():
            self._metrics.lag.labels(topic).set(lag)
