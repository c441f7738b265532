"""Catching up: follows a consumer until it has committed all records that the log held when it began."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from services.shared.errors import TransientError
from services.shared.messaging import Backlog, Broker, Consumer, Partition, Producer, Reading, Record

Noted = Callable[[Mapping[Partition, int]], Awaitable[None]]
"""Called with the first offsets of partitions that are new to the consumer, before it hands on any of their
records."""


class CatchUp:
    """Follows one consumer. `done` is set once it has committed all that each partition held when first
    seen."""

    def __init__(self, noted: Noted) -> None:
        self._noted = noted
        self._starts: dict[Partition, int] = {}
        self._ends: dict[Partition, int] = {}
        self._reached: dict[Partition, int] = {}
        self.seen = asyncio.Event()
        """Set once the ends of all assigned partitions are known."""
        self.done = asyncio.Event()

    def progress(self) -> tuple[int, int]:
        """Records committed so far, and in total."""
        begun = sum(self._starts.values())
        return sum(self._reached.values()) - begun, sum(self._ends.values()) - begun

    async def fetched(self, consumer: Consumer, records: Sequence[Record]) -> None:
        assigned = set(consumer.assignment())
        if assigned - self._ends.keys():
            await self._note_partitions(consumer, records)
        if assigned and not assigned - self._ends.keys():
            self.seen.set()
            self._check_done()

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        for partition in offsets.keys() & self._ends.keys():
            self._reached[partition] = min(offsets[partition], self._ends[partition])
        self._check_done()

    async def _note_partitions(self, consumer: Consumer, records: Sequence[Record]) -> None:
        """Note the start and end of new partitions. A position is after the records just fetched, so the
        start is the first of them, if any."""
        lags, positions = await consumer.lag(), await consumer.positions()
        first: dict[Partition, int] = {}
        for record in records:
            first.setdefault(record.partition, record.offset)
        new = {p: first.get(p, positions[p]) for p in lags if p in positions and p not in self._ends}
        self._starts |= new
        self._reached |= new
        self._ends |= {p: positions[p] + lags[p] for p in new}
        if new:
            await self._noted(new)

    def _check_done(self) -> None:
        if self.seen.is_set() and all(self._reached[p] >= end for p, end in self._ends.items()):
            self.done.set()


class CatchUpBroker:
    """A broker whose consumers are followed by `watch`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.watch: CatchUp | None = None

    async def producer(self) -> Producer:
        return await self._broker.producer()

    async def consumer(self, group: str, topics: Sequence[str]) -> Consumer:
        consumer = await self._broker.consumer(group, topics)
        return CatchUpConsumer(consumer, self.watch) if self.watch else consumer

    async def read(self, places: Sequence[tuple[Partition, int]]) -> Reading:
        return await self._broker.read(places)


class ConsumerDecorator:
    """A consumer that delegates to another; subclasses override what they observe."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    async def fetch(self, max_records: int, timeout: float) -> list[Record]:
        return await self._consumer.fetch(max_records, timeout)

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        await self._consumer.commit(offsets)

    def rewind(self, offsets: Mapping[Partition, int]) -> None:
        self._consumer.rewind(offsets)

    def assignment(self) -> Collection[Partition]:
        return self._consumer.assignment()

    def partitions(self) -> int:
        return self._consumer.partitions()

    async def lag(self) -> dict[Partition, int]:
        return await self._consumer.lag()

    async def backlog(self) -> dict[Partition, Backlog]:
        return await self._consumer.backlog()

    async def positions(self) -> dict[Partition, int]:
        return await self._consumer.positions()

    async def stop(self) -> None:
        await self._consumer.stop()


class CatchUpConsumer(ConsumerDecorator):
    def __init__(self, consumer: Consumer, watch: CatchUp) -> None:
        super().__init__(consumer)
        self._watch = watch

    async def fetch(self, max_records: int, timeout: float) -> list[Record]:
        records = await super().fetch(max_records, timeout)
        await self._watch.fetched(self._consumer, records)
        return records

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        try:
            await super().commit(offsets)
        except TransientError:
            # The effect is committed, and if this was the last batch, nobody would commit its offsets again.
            self._watch.committed(offsets)
            raise
        self._watch.committed(offsets)
