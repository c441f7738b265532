"""The lag of a consumer, in records and in seconds, from what the broker says and the group has committed.

Seconds are computed when they are read. So they keep growing while a batch is retried, a handler hangs, the
fuse is open, a partition is stopped or the broker is away.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Final

from services.shared.clock import Clock
from services.shared.messaging.broker import Backlog, Partition, Record
from services.shared.messaging.metrics import ConsumerMetrics

SILENT_SECONDS: Final = 10.0
"""Without an answer about a partition for longer than this, records may wait there that nobody knows of."""


class Lag:
    """The lag of one member of a group. A batch counts as waiting until its offsets are committed."""

    def __init__(self, topics: Sequence[str], clock: Clock, metrics: ConsumerMetrics) -> None:
        self._topics = topics
        self._clock = clock
        self._metrics = metrics
        self._backlogs: dict[Partition, Backlog] = {}
        self._answered: dict[Partition, float] = {}
        """When the broker last told the backlog of each assigned partition (seconds since the epoch)."""
        self._began: float | None = None
        """Since when the first answer is waited for."""
        self._waiting: dict[Partition, float] = {}
        """Timestamp, in seconds, of the oldest waiting record of each partition that has one."""
        self._unseen: dict[Partition, float] = {}
        """Partitions with waiting records of which none was fetched, and since when they are known to
        wait."""
        for topic in topics:
            metrics.lag_seconds.labels(topic).set_function(partial(self.seconds, topic))

    def begin(self) -> None:
        """From now on the broker should answer."""
        self._began = self._now()

    def seconds(self, topic: str) -> float:
        """Age of the oldest waiting record of the topic, by its timestamp; 0 when none waits. While the
        broker is silent, at least the time since its last answer."""
        now = self._now()
        ages = [now - at for p, at in self._waiting.copy().items() if p.topic == topic]
        answers = [at for p, at in self._answered.copy().items() if p.topic == topic]
        if self._began is not None:
            answers.append(self._began)
        ages += [silence for at in answers if (silence := now - at) > SILENT_SECONDS]
        return max(0.0, *ages, 0.0)

    def fetched(self, records: Sequence[Record]) -> None:
        """These records were fetched and wait now; in order within each partition."""
        first = {record.partition: record.timestamp / 1000 for record in reversed(records)}
        self._waiting |= first
        for partition in first:
            self._unseen.pop(partition, None)

    def consumed(self, records: Sequence[Record]) -> None:
        """These records are committed. If more wait, the next is at least as young as the last of these."""
        for partition, last in {record.partition: record for record in records}.items():
            backlog = self._backlogs.get(partition)
            if backlog and last.offset + 1 < backlog.end:
                self._waiting[partition] = last.timestamp / 1000
            else:
                self._waiting.pop(partition, None)

    def looked(self, backlogs: Mapping[Partition, Backlog], assigned: Collection[Partition]) -> None:
        """Take what the broker has just told; it may have told nothing of some assigned partitions."""
        now = self._now()
        self._began = None
        self._backlogs = {p: b for p, b in {**self._backlogs, **backlogs}.items() if p in assigned}
        self._answered = {p: now if p in backlogs else self._answered.get(p, now) for p in assigned}
        behind = {p for p, backlog in self._backlogs.items() if backlog.end > backlog.committed}
        self._unseen = {
            p: self._unseen.get(p, now) for p in behind if p not in self._waiting or p in self._unseen
        }
        self._waiting = {p: self._waiting.get(p, now) for p in behind}
        self._show_records()

    def unseen(self, seconds: float) -> list[tuple[Partition, int]]:
        """Where the oldest waiting records are that have waited for so long and were never fetched; each is
        named once."""
        now = self._now()
        due = [p for p, since in self._unseen.items() if now - since >= seconds]
        for partition in due:
            self._unseen[partition] = float("inf")
        return [(p, self._backlogs[p].committed) for p in due]

    def _show_records(self) -> None:
        by_topic = dict.fromkeys(self._topics, 0)  # a topic without assigned partitions has no lag here
        for partition, backlog in self._backlogs.items():
            by_topic[partition.topic] += max(0, backlog.end - backlog.committed)
        for topic, lag in by_topic.items():
            self._metrics.lag.labels(topic).set(lag)

    def _now(self) -> float:
        return self._clock.now().timestamp()
