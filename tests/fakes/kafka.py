"""An in-memory log behind the `Broker` protocol of messaging, with consumer groups and their rebalances."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

from services.shared.errors import TransientError
from services.shared.messaging import (
    PUBLISH_SECONDS,
    Backlog,
    Message,
    Partition,
    Reading,
    RebalancedError,
    Record,
    Refusal,
    TopicSpec,
)
from tests.fakes import Step, unhindered

POLL_SECONDS = 0.005


class Log:
    """State that outlives every process: records, committed offsets, and the members of each group."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self.records: dict[Partition, list[Record]] = {}
        self.committed: dict[tuple[str, Partition], int] = {}
        self.members: dict[str, list[MemoryConsumer]] = {}

    def create(self, topics: Sequence[TopicSpec]) -> None:
        for topic in topics:
            for number in range(topic.partitions):
                self.records.setdefault(Partition(topic.name, number), [])

    def partitions(self, topics: Collection[str]) -> list[Partition]:
        return sorted(p for p in self.records if p.topic in topics)

    def read(self, topic: str) -> list[Record]:
        """Every record of a topic, partition by partition."""
        return [record for p in self.partitions([topic]) for record in self.records[p]]

    def append(self, message: Message) -> Record:
        mine = self.partitions([message.topic])
        # A C client's record may have no key, whatever our own type says.
        partition = mine[zlib.crc32(message.key or b"") % len(mine)]
        records = self.records[partition]
        at = int(self._now().timestamp() * 1000)
        record = Record(partition, len(records), message.key, message.value, message.headers, at)
        records.append(record)
        return record

    def join(self, member: MemoryConsumer) -> None:
        self.members.setdefault(member.group, []).append(member)
        self._rebalance(member.group)

    def leave(self, member: MemoryConsumer) -> None:
        """Remove a member, on request or because its session expired; it notices with its next call."""
        if member in self.members.get(member.group, []):
            self.members[member.group].remove(member)
            self._rebalance(member.group)

    def _rebalance(self, group: str) -> None:
        """Rebalance eagerly, like aiokafka: everyone restarts at the committed offsets, even in kept
        partitions."""
        members = self.members[group]
        for member in members:
            member.next_offsets = {}
        topics = {topic for member in members for topic in member.topics}
        for i, partition in enumerate(self.partitions(topics)):
            takers = [m for m in members if partition.topic in m.topics]
            takers[i % len(takers)].next_offsets[partition] = self.committed.get((group, partition), 0)


class MemoryBroker:
    def __init__(self, log: Log, step: Step = unhindered) -> None:
        self.log = log
        self._step = step

    async def producer(self) -> MemoryProducer:
        return MemoryProducer(self.log, self.reach)

    async def read(self, places: Sequence[tuple[Partition, int]]) -> Reading:
        await self.reach("read")
        found = ((self.log.records.get(partition, []), offset) for partition, offset in places)
        return Reading([records[offset] for records, offset in found if offset < len(records)], [])

    async def consumer(self, group: str, topics: Sequence[str]) -> MemoryConsumer:
        await self.reach("join")
        consumer = MemoryConsumer(self.log, self.reach, group, topics)
        self.log.join(consumer)
        return consumer

    async def reach(self, step: str) -> None:
        try:
            await self._step(step)
        except ConnectionError as error:
            raise TransientError(f"{step} failed") from error


class MemoryProducer:
    def __init__(self, log: Log, reach: Step) -> None:
        self._log = log
        self._reach = reach

    async def publish(
        self, messages: Sequence[Message], timeout: float = PUBLISH_SECONDS
    ) -> dict[int, Refusal]:
        """Publish in three steps: on failure none, the first half, or all messages may be in the log."""
        half = (len(messages) + 1) // 2
        await self._reach("publish")
        for message in messages[:half]:
            self._log.append(message)
        await self._reach("publish half")
        for message in messages[half:]:
            self._log.append(message)
        await self._reach("publish done")
        return {}

    async def probe(self) -> None:
        """The log always answers."""

    async def stop(self) -> None:
        pass


class MemoryConsumer:
    """One member of a consumer group. `next_offsets` has an entry for each of its assigned partitions."""

    def __init__(self, log: Log, reach: Step, group: str, topics: Sequence[str]) -> None:
        self._log = log
        self._reach = reach
        self.group = group
        self.topics = frozenset(topics)
        self.next_offsets: dict[Partition, int] = {}

    @property
    def expelled(self) -> bool:
        return self not in self._log.members[self.group]

    async def fetch(self, max_records: int, timeout: float) -> list[Record]:
        await self._reach("fetch")
        if self.expelled:
            self._log.join(self)
        deadline = asyncio.get_running_loop().time() + timeout
        # A consumer gives no signal.
        while not (records := self._take(max_records)) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
        return records

    def _take(self, most: int) -> list[Record]:
        taken: list[Record] = []
        for partition, position in self.next_offsets.items():
            records = self._log.records[partition][position : position + most - len(taken)]
            self.next_offsets[partition] = position + len(records)
            taken += records
        return taken

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        await self._reach("commit offsets")
        if self.expelled or not offsets.keys() <= self.next_offsets.keys():
            raise RebalancedError
        for partition, offset in offsets.items():
            self._log.committed[self.group, partition] = offset
        await self._reach("commit offsets done")

    def rewind(self, offsets: Mapping[Partition, int]) -> None:
        for partition, offset in offsets.items():
            if partition in self.next_offsets:
                self.next_offsets[partition] = offset

    def assignment(self) -> Collection[Partition]:
        return set(self.next_offsets)

    def partitions(self) -> int:
        return sum(partition.topic in self.topics for partition in self._log.records)

    async def lag(self) -> dict[Partition, int]:
        return {p: len(self._log.records[p]) - position for p, position in self.next_offsets.items()}

    async def backlog(self) -> dict[Partition, Backlog]:
        committed = self._log.committed
        return {
            p: Backlog(committed.get((self.group, p), 0), len(self._log.records[p]))
            for p in self.next_offsets
        }

    async def positions(self) -> dict[Partition, int]:
        return dict(self.next_offsets)

    async def stop(self) -> None:
        """Leave the group. If the request is lost, it stays a member until its session expires."""
        with contextlib.suppress(TransientError):
            await self._reach("leave")
            self._log.leave(self)
