"""The interface of a message log, as messaging needs it; `kafka` implements it."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, Protocol


class Partition(NamedTuple):
    topic: str
    number: int


@dataclass(frozen=True, slots=True)
class Message:
    """A record to publish."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Record:
    """A record as read. `timestamp` is in milliseconds since the epoch."""

    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp: int


class Reading(NamedTuple):
    """Single records as read again, in the order in which they were asked for.

    `unanswered` are the places about which the broker has not told whether it still has a record there.
    """

    records: list[Record]
    unanswered: list[tuple[Partition, int]]


@dataclass(frozen=True, slots=True)
class TopicSpec:
    name: str
    partitions: int
    replication: int
    config: Mapping[str, str] = field(default_factory=dict)

    def on(self, brokers: int) -> TopicSpec:
        """The same topic on a cluster of `brokers` nodes: it cannot have more replicas than nodes."""
        replication = min(self.replication, brokers)
        # With min.insync.replicas above the number of replicas, every acks=all write would be refused.
        in_sync = min(int(self.config.get("min.insync.replicas", 1)), replication)
        return replace(
            self, replication=replication, config={**self.config, "min.insync.replicas": str(in_sync)}
        )


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it exists in the cluster. `leaderless` counts partitions without a leader, `behind` those
    with replicas out of sync."""

    spec: TopicSpec
    leaderless: int
    behind: int


class Refusal(enum.StrEnum):
    """Why a message was not published."""

    TOO_LARGE = "too_large"
    INVALID = "invalid"
    """The broker refuses this record, whatever it is sent with."""
    TOPIC_MISSING = "topic_missing"
    TOPIC_DENIED = "topic_denied"
    TOPIC_UNAVAILABLE = "topic_unavailable"
    """The broker answers, but does not take records for the topic: no leader, too few replicas in sync."""
    BEHIND = "behind"
    """An earlier message with the same topic and key was refused."""
    UNANSWERED = "unanswered"
    """Nobody knows whether the message was published: publish it again."""


OF_A_RECORD: Final = frozenset({Refusal.TOO_LARGE, Refusal.INVALID})
OF_A_TOPIC: Final = frozenset({Refusal.TOPIC_MISSING, Refusal.TOPIC_DENIED, Refusal.TOPIC_UNAVAILABLE})
PUBLISH_SECONDS: Final = 15.0


class Backlog(NamedTuple):
    """The part of a partition that a group has not consumed: offsets from `committed` to before `end`."""

    committed: int
    end: int


class RebalancedError(Exception):
    """The partitions were reassigned to another member. Effects already committed stand; this member must not
    commit the offsets."""


class Producer(Protocol):
    async def publish(
        self, messages: Sequence[Message], timeout: float = PUBLISH_SECONDS
    ) -> Mapping[int, Refusal]:
        """Publish in order, within `timeout` seconds. Messages that can be published are, whatever becomes of
        the others.

        Returns the messages that were not published, by their index, and why. All in-sync replicas have
        acknowledged the others.

        Raises: `TransientError` when the broker cannot be reached.
        """
        ...

    async def probe(self) -> None:
        """Ask the broker for a sign of life.

        Raises: `TransientError` when there is none.
        """
        ...

    async def stop(self) -> None: ...


class Consumer(Protocol):
    """One member of a consumer group. After a rebalance, each assigned partition is read from its committed
    offset."""

    async def fetch(self, max_records: int, timeout: float) -> list[Record]:
        """Up to `max_records` records, in order within each partition; an empty list after `timeout`
        seconds."""
        ...

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commit the next offset to read of each partition.

        Raises: `RebalancedError`; `TransientError` when the broker does not answer in time.
        """
        ...

    def rewind(self, offsets: Mapping[Partition, int]) -> None:
        """Read again from these offsets; partitions no longer assigned are skipped."""
        ...

    def assignment(self) -> Collection[Partition]: ...

    def partitions(self) -> int:
        """The number of partitions of the subscribed topics, on all members."""
        ...

    async def lag(self) -> dict[Partition, int]:
        """Records between the position and the end of each assigned partition, as of the last fetch."""
        ...

    async def backlog(self) -> dict[Partition, Backlog]:
        """The part that the group has not consumed of each assigned partition, as the broker says now.
        Partitions for which it gives no answer within seconds are left out.

        Raises: `TransientError` when it gives no answer at all.
        """
        ...

    async def positions(self) -> dict[Partition, int]:
        """The next offset to read of each assigned partition for which it is known."""
        ...

    async def stop(self) -> None: ...


class Broker(Protocol):
    async def producer(self) -> Producer: ...

    async def consumer(self, group: str, topics: Sequence[str]) -> Consumer: ...

    async def read(self, places: Sequence[tuple[Partition, int]]) -> Reading:
        """The records at these partitions and offsets. Those that the log no longer has are left out.

        A topic that is missing or denied, or a partition that cannot be read, leaves its own places
        unanswered and no others.

        Raises: `TransientError` when the broker cannot be reached.
        """
        ...


class LogReader(Protocol):
    """Reads the partitions that some topics had when it was made, outside any consumer group."""

    async def fetch(self, max_records: int, timeout: float) -> list[Record]:
        """Up to `max_records` records, in order within each partition; an empty list after `timeout`
        seconds."""
        ...

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        """Read on from these offsets."""
        ...

    async def bounds(self) -> dict[Partition, range]:
        """The offsets that each partition holds now.

        Raises: `TransientError` when the broker does not answer.
        """
        ...

    async def stop(self) -> None: ...


class LogSource(Protocol):
    """The whole log, for those who read it again."""

    async def reader(self, topics: Sequence[str]) -> LogReader:
        """A reader that begins with the first record of each partition.

        Raises: `TransientError` when the broker cannot be reached.
        """
        ...

    async def marks(
        self, group: str, topics: Sequence[str]
    ) -> tuple[dict[Partition, int], dict[Partition, int]]:
        """The group's committed offset in each partition that has one, and the end offset of each partition.

        Raises: `TransientError` when the broker does not answer.
        """
        ...
