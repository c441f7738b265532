"""What the runtime asks of a log: the seam behind which `kafka.py` stands."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol


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


@dataclass(frozen=True, slots=True)
class TopicSpec:
    name: str
    partitions: int
    replication: int
    config: Mapping[str, str] = field(default_factory=dict)

    def on(self, brokers: int) -> TopicSpec:
        """For a cluster of `brokers` nodes: no more replicas than nodes."""
        replication = min(self.replication, brokers)
        # More in-sync replicas than replicas could never be met: every acks=all write would be refused.
        in_sync = min(int(self.config.get("min.insync.replicas", 1)), replication)
        return replace(
            self, replication=replication, config={**self.config, "min.insync.replicas": str(in_sync)}
        )


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as a cluster has it. `leaderless` and `behind` count partitions: without a leader, with replicas out of sync."""

    spec: TopicSpec
    leaderless: int
    behind: int


class RebalancedError(Exception):
    """The partitions belong to another member now; what was done with them stands, its offsets are not ours to commit."""


class Producer(Protocol):
    async def publish(self, messages: Sequence[Message]) -> None:
        """Publish in order, all acknowledged by all in-sync replicas on return.

        Raises: `TransientError` when any was not; some may have been published all the same.
        """
        ...

    async def stop(self) -> None: ...


class Consumer(Protocol):
    """One member of a consumer group. After a rebalance every partition it is assigned begins at its committed offset."""

    async def fetch(self, max_records: int, timeout: float) -> list[Record]:
        """Up to `max_records` records, in order within each partition; none after `timeout` seconds."""
        ...

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commit the next offset to read of each partition.

        Raises: `RebalancedError`; `TransientError` when the broker does not answer in time.
        """
        ...

    def rewind(self, offsets: Mapping[Partition, int]) -> None:
        """Read again from these offsets; partitions that are no longer ours are passed over."""
        ...

    def assignment(self) -> Collection[Partition]: ...

    def partitions(self) -> int:
        """How many the subscribed topics have, whoever holds them."""
        ...

    async def lag(self) -> dict[Partition, int]:
        """Records between our position and the end of each assigned partition, as of the last fetch."""
        ...

    async def positions(self) -> dict[Partition, int]:
        """The offset that each assigned partition is read from next."""
        ...

    async def stop(self) -> None: ...


class Broker(Protocol):
    async def producer(self) -> Producer: ...

    async def consumer(self, group: str, topics: Sequence[str]) -> Consumer: ...

    async def read(self, places: Sequence[tuple[Partition, int]]) -> list[Record]:
        """The records at these partitions and offsets, in that order; one that is not there is left out.

        Raises: `TransientError` when the broker does not answer.
        """
        ...
