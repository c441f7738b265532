"""The producer: what can be published is, and every other message gets its own reason."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final

from aiokafka.errors import KafkaError

from services.shared.errors import TransientError
from services.shared.messaging.bisection import bisect
from services.shared.messaging.broker import OF_A_RECORD, PUBLISH_SECONDS, Message, Partition, Refusal
from services.shared.messaging.kafka import patches
from services.shared.messaging.kafka.faults import refusal_of
from services.shared.messaging.kafka.partitioning import partition_of

TOPIC_SECONDS: Final = 1.0
"""How long a missing topic is looked for, because a new one is not known everywhere at once; and how long
nothing may be acknowledged before the topics are looked at."""
PROBE_SECONDS: Final = 5.0


class KafkaProducer:
    """An idempotent producer that replaces its aiokafka client after any failure: its sequence numbers may
    differ from the broker's then.

    `start` makes a started aiokafka client; `prefix` precedes every topic on the wire; `alive` is called when
    the broker gives a sign of life."""

    def __init__(self, start: Callable[[], Awaitable[Any]], prefix: str, alive: Callable[[], None]) -> None:
        self._start = start
        self._alive = alive
        self._prefix = prefix
        self._raw: Any = None

    async def start(self) -> None:
        self._raw = await self._start()

    async def publish(
        self, messages: Sequence[Message], timeout: float = PUBLISH_SECONDS
    ) -> dict[int, Refusal]:
        faults: dict[int, Refusal | None] = {**await self._send(messages, range(len(messages)), timeout)}
        for topic in {messages[i].topic for i, why in faults.items() if why in OF_A_RECORD}:
            its = [i for i in sorted(faults) if messages[i].topic == topic]
            faults |= await self._isolate(messages, its, timeout)
        return {i: why for i, why in faults.items() if why}

    async def _isolate(
        self, messages: Sequence[Message], indexes: Sequence[int], timeout: float
    ) -> dict[int, Refusal | None]:
        """Send the messages of a topic again, in halves, until those that are refused stand alone. Returns
        None for those that are published now."""
        outcome: dict[int, Refusal | None] = dict.fromkeys(indexes, Refusal.UNANSWERED)
        refused_keys: set[bytes] = set()

        async def attempt(part: Sequence[int]) -> None:
            left = [i for i in part if outcome[i] is Refusal.UNANSWERED]
            behind = [i for i in left if messages[i].key in refused_keys]
            left = [i for i in left if messages[i].key not in refused_keys]
            faults = await self._send(messages, left, timeout)
            outcome.update(dict.fromkeys(behind, Refusal.BEHIND))
            outcome.update((i, None) for i in left if i not in faults)
            reasons = OF_A_RECORD.intersection(faults.values())
            if reasons:
                raise _RefusedError(min(reasons))
            outcome.update(faults)
            if faults:
                raise TransientError

        async def isolate(index: int, error: Exception) -> None:
            assert isinstance(error, _RefusedError)
            outcome[index] = error.why
            refused_keys.add(messages[index].key)

        with contextlib.suppress(TransientError):
            await bisect(indexes, attempt, isolate, splits=lambda error: isinstance(error, _RefusedError))
        return outcome

    async def _send(
        self, messages: Sequence[Message], indexes: Sequence[int], timeout: float
    ) -> dict[int, Refusal]:
        """Send once; returns the messages without an acknowledgement.

        aiokafka's `send` takes 30 us per record, mostly for coroutines and futures of each record; so records
        are sent in batches of one partition, one after another, which keeps the order of `messages`.
        """
        if not indexes:
            return {}
        if self._raw is None:
            await self.start()
        try:
            topics = await self._unusable({messages[i].topic for i in indexes})
        except (KafkaError, TimeoutError) as error:
            await self._discard()
            raise TransientError(f"publish failed: {type(error).__name__}") from error
        unsent = {i: topics[messages[i].topic] for i in indexes if messages[i].topic in topics}
        lanes = self._lanes(messages, [i for i in indexes if i not in unsent] if unsent else indexes)
        await self._acknowledged(lanes, timeout)
        for lane in lanes:
            unsent |= dict.fromkeys(lane.left(), lane.fault)
        if any(lane.broken for lane in lanes):
            await self._discard()
        return unsent

    def _lanes(self, messages: Sequence[Message], indexes: Sequence[int]) -> list[_Lane]:
        counts = {t: len(self._partitions(t) or ()) for t in {messages[i].topic for i in indexes}}
        lanes: dict[Partition, _Lane] = {}
        for i in indexes:
            m = messages[i]
            at = Partition(m.topic, partition_of(m.key, counts[m.topic]))
            lane = lanes.get(at)
            if lane is None:
                lane = lanes[at] = _Lane(at, self._prefix + m.topic)
            lane.add(self._raw, i, m)
        return list(lanes.values())

    async def _acknowledged(self, lanes: Collection[_Lane], timeout: float) -> None:
        """Send all lanes at once, and wait until each has its answer, or `timeout` seconds have passed, or
        its topic turns out to be unusable: aiokafka would repeat that for ever."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout
        waiting = {asyncio.create_task(lane.send(self._raw)): lane for lane in lanes}
        try:
            while waiting:
                done, _ = await asyncio.wait(
                    waiting, timeout=min(TOPIC_SECONDS, max(0.0, deadline - clock()))
                )
                for task in done:
                    del waiting[task]
                if done or not waiting:
                    continue
                late = clock() >= deadline
                unusable = await self._looked_at({lane.at.topic for lane in waiting.values()}, late=late)
                for task, lane in list(waiting.items()):
                    if late or lane.at.topic in unusable:
                        lane.fault = unusable.get(lane.at.topic, Refusal.UNANSWERED)
                        task.cancel()
                        del waiting[task]
        finally:
            for task in waiting:
                task.cancel()

    async def _looked_at(self, topics: Collection[str], *, late: bool) -> dict[str, Refusal]:
        """The unusable topics among those that acknowledge nothing. If it is late, and the broker answers all
        the same, these are all of them."""
        try:
            unusable = await self._unusable(topics)
            if late:
                await self._metadata()
                return dict.fromkeys(topics, Refusal.TOPIC_UNAVAILABLE) | unusable
        except (KafkaError, TimeoutError):
            return {}
        return unusable

    async def _unusable(self, topics: Collection[str]) -> dict[str, Refusal]:
        """The topics that the broker does not have, or does not show to this user.

        Raises: `KafkaError` or `TimeoutError` when the broker does not answer.
        """
        client, clock = self._raw.client, asyncio.get_running_loop().time
        deadline = clock() + TOPIC_SECONDS
        while unknown := [topic for topic in topics if self._partitions(topic) is None]:
            denied = {
                topic for topic in unknown if self._prefix + topic in client.cluster.unauthorized_topics
            }
            if clock() >= deadline or len(denied) == len(unknown):
                missing = dict.fromkeys(unknown, Refusal.TOPIC_MISSING)
                return missing | dict.fromkeys(denied, Refusal.TOPIC_DENIED)
            for topic in unknown:
                client.add_topic(self._prefix + topic)
            await self._metadata()
        return {}

    def _partitions(self, topic: str) -> Collection[int] | None:
        known: Collection[int] | None = self._raw.client.cluster.partitions_for_topic(self._prefix + topic)
        return known

    async def _metadata(self) -> None:
        """Read the metadata anew.

        Raises: `KafkaError` or `TimeoutError` when the broker does not answer.
        """
        async with asyncio.timeout(PROBE_SECONDS):
            if not await self._raw.client.force_metadata_update():
                raise KafkaError("no broker answers")

    async def probe(self) -> None:
        if self._raw is None:
            await self.start()
        try:
            await self._metadata()
        except (KafkaError, TimeoutError) as error:
            await self._discard()
            raise TransientError("the broker does not answer") from error
        self._alive()

    async def stop(self) -> None:
        await self._discard()

    async def _discard(self) -> None:
        raw, self._raw = self._raw, None
        if raw is not None:
            await patches.abandon(raw)


class _RefusedError(Exception):
    def __init__(self, why: Refusal) -> None:
        super().__init__(why)
        self.why = why


class _Lane:
    """The messages of one partition, in batches, and how many of the batches are acknowledged."""

    def __init__(self, at: Partition, topic: str) -> None:
        self.at = at
        self.fault = Refusal.UNANSWERED
        self.broken = False
        """Whether the aiokafka client may have sent something that was not acknowledged."""
        self._topic = topic
        self._batches: list[tuple[Any, list[int]]] = []
        self._acknowledged = 0

    def add(self, raw: Any, index: int, message: Message) -> None:
        if not self._batches or not _append(self._batches[-1][0], message):
            self._batches.append((raw.create_batch(), []))
            _append(self._batches[-1][0], message)
        self._batches[-1][1].append(index)

    async def send(self, raw: Any) -> None:
        """Send one batch after another. While one is unanswered, none follows: after a refused batch, the
        broker may accept the next, whose records would overtake those that are sent again."""
        try:
            for batch, _ in self._batches:
                self.broken = True
                await (await raw.send_batch(batch, self._topic, partition=self.at.number))
                self.broken = False
                self._acknowledged += 1
        except (KafkaError, OSError) as error:
            self.fault = refusal_of(error)

    def left(self) -> list[int]:
        """The messages that are not acknowledged."""
        return [index for _, indexes in self._batches[self._acknowledged :] for index in indexes]


def _append(batch: Any, message: Message) -> bool:
    """Add a message; False when the batch is full. An empty batch accepts any message."""
    headers = list(message.headers)
    return batch.append(timestamp=None, key=message.key, value=message.value, headers=headers) is not None
