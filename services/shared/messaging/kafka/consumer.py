"""One member of a consumer group: what cannot be read stops its own partition, aloud, and no other."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, Literal

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    ConsumerStoppedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
)

from services.shared.errors import TransientError
from services.shared.messaging.broker import Backlog, Partition, RebalancedError, Record
from services.shared.messaging.kafka import patches
from services.shared.messaging.kafka.faults import fetch_reason
from services.shared.messaging.kafka.translation import TopicNames, stop
from services.shared.messaging.metrics import BrokerMetrics

log = structlog.get_logger(__name__)

COMMIT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 3.0
"""How long the broker may take to tell a backlog."""
FRESH_SECONDS: Final = 3.0
"""A fetch's answer tells the end of its partitions for so long; after that, the broker is asked."""
EACH_MS: Final = 200
"""How long each partition is waited for while one is looked for that cannot be read."""
PAUSES: Final = (1.0, 60.0)
"""Seconds before a stopped partition is tried again: the first pause, doubling up to the second."""

UNREADABLE: Final = ("codec", "corrupt")

OnGap = Literal["stop", "continue"]
Gaps = set[tuple[TopicPartition, int]]


@dataclass
class _Stopped:
    """A partition that cannot be read on, until it is tried again at `until` (the loop's time)."""

    reason: str
    pause: float
    until: float


class KafkaConsumer:
    """One member of a consumer group; see `Consumer`.

    `gaps` are those gaps of the log that have been counted; it outlives this member.
    """

    def __init__(self, raw: Any, prefix: str, metrics: BrokerMetrics, on_gap: OnGap, gaps: Gaps) -> None:
        self._raw = raw
        names = TopicNames(prefix)
        self._partition, self._topic_partition = names.partition, names.topic_partition
        self._record = names.record
        self._metrics = metrics
        self._on_gap = on_gap
        self._gaps = gaps
        self._committed: dict[TopicPartition, int] = {}
        self._limits: dict[TopicPartition, int] = {}
        """Records to take at once from partitions that may hold one that cannot be read."""
        self._stopped: dict[TopicPartition, _Stopped] = {}
        self._shown: set[tuple[str, str]] = set()

    def forget(self) -> None:
        """The partitions were assigned anew, and all of them are read again."""
        self._committed.clear()
        self._limits.clear()
        self._stopped.clear()
        self._show_stopped()

    async def fetch(self, max_records: int, timeout: float) -> list[Record]:
        self._try_stopped_again()
        if self._limits:
            return self._records(await self._fetch_each(max_records))
        while True:
            go_back = patches.bookmark(self._raw)
            try:
                return self._records(
                    await self._raw.getmany(timeout_ms=int(timeout * 1000), max_records=max_records)
                )
            except ConsumerStoppedError:
                raise
            except (
                NoOffsetForPartitionError
            ) as error:  # raised for one partition of a new group after another
                await self._begin(error.args[0])
            except Exception as error:
                if not await self._attend(error):
                    go_back()
                    self._limits = dict.fromkeys(self._raw.assignment(), max_records)
                return []

    async def _fetch_each(self, max_records: int) -> dict[TopicPartition, list[Any]]:
        """Fetch from each partition by itself. One whose records cannot be decoded hands on fewer and fewer,
        until the one that cannot be is first, and is stopped there."""
        tps = sorted(self._raw.assignment() - self._raw.paused())
        share = max(1, max_records // max(1, len(tps)))
        marks = [patches.bookmark(self._raw, tp) for tp in tps]
        limits = [min(share, self._limits.get(tp, share)) for tp in tps]
        fetches = [
            self._raw.getmany(tp, timeout_ms=EACH_MS, max_records=limit)
            for tp, limit in zip(tps, limits, strict=True)
        ]
        outcomes = await asyncio.gather(*fetches, return_exceptions=True)
        found: dict[TopicPartition, list[Any]] = {}
        quiet = True
        for tp, limit, go_back, outcome in zip(tps, limits, marks, outcomes, strict=True):
            if isinstance(outcome, dict):
                found |= outcome
                if outcome and limit == share:
                    self._limits.pop(tp, None)
                continue
            quiet = False
            if not isinstance(outcome, Exception) or isinstance(outcome, ConsumerStoppedError):
                raise outcome
            if await self._attend(outcome):
                continue
            go_back()
            self._limits[tp] = limit // 2
            if limit == 1:
                self._stop(tp, fetch_reason(outcome))
        if quiet and not found:
            self._limits.clear()
        return found

    async def _attend(self, error: Exception) -> bool:
        """Do what an error of a fetch asks for; False if records could not be decoded.

        Raises: `TransientError` when it concerns more than some partitions.
        """
        reason = fetch_reason(error)
        if isinstance(error, NoOffsetForPartitionError):  # a new group, or one whose offsets have expired
            await self._begin(error.args[0])
            return True
        self._metrics.fetch_errors.labels(reason).inc()
        if isinstance(error, OffsetOutOfRangeError):
            for tp, offset in error.args[0].items():
                await self._meet_gap(tp, offset)
        elif isinstance(error, RecordTooLargeError):
            _, tp, offset, *_ = error.args
            self._raw.seek(tp, offset)  # aiokafka has skipped it
            self._stop(tp, reason)
        elif denied := [tp for tp in self._raw.assignment() if _denies(error, tp)]:
            for tp in denied:
                self._stop(tp, reason)
        elif reason in UNREADABLE:
            return False
        else:
            raise TransientError(f"fetch failed: {type(error).__name__}") from error
        return True

    async def _begin(self, tp: TopicPartition) -> None:
        """Begin at the start of the log.

        What was deleted before is told, and stops nothing: a new service may well begin with a log that is no
        longer whole.
        """
        await self._answered(self._raw.seek_to_beginning(tp))
        if start := (await self._answered(self._raw.beginning_offsets([tp])))[tp]:
            self._tell_gap(tp, 0, start, start, start)

    async def _meet_gap(self, tp: TopicPartition, offset: int) -> None:
        """The log does not have the offset to read next: records were deleted before they were read, or the
        log is shorter than it was, because the topic or the broker was replaced."""
        start = (await self._answered(self._raw.beginning_offsets([tp])))[tp]
        end = (await self._answered(self._raw.end_offsets([tp])))[tp]
        if start <= offset <= end:
            return
        lost = start - offset if offset < start else offset - end
        partition = self._partition(tp)
        self._tell_gap(tp, offset, start, end, lost)
        if self._on_gap == "stop":
            self._stop(tp, "log_gap")
            return
        self._raw.seek(tp, start)  # also behind the end: the inbox drops what was applied already
        with contextlib.suppress(RebalancedError):
            await self.commit({partition: start})

    def _tell_gap(self, tp: TopicPartition, offset: int, start: int, end: int, lost: int) -> None:
        """Count and log a gap, once."""
        if (tp, offset) in self._gaps:
            return
        self._gaps.add((tp, offset))
        partition = self._partition(tp)
        self._metrics.gap.labels(partition.topic).inc(lost)
        log.error(
            "consumer.log_gap",
            topic=partition.topic,
            partition=partition.number,
            committed=offset,
            start=start,
            end=end,
            records=lost,
            on_log_gap=self._on_gap,
        )

    async def _answered(self, asked: Any) -> Any:
        try:
            return await asked
        except (KafkaError, OSError) as error:
            raise TransientError(f"fetch failed: {type(error).__name__}") from error

    # -- stopped partitions ----------------------------------------------------------------------------------

    def _stop(self, tp: TopicPartition, reason: str) -> None:
        before, now = self._stopped.get(tp), asyncio.get_running_loop().time()
        self._limits.pop(tp, None)
        if before and now < before.until:
            return
        pause = min(PAUSES[1], before.pause * 2) if before else PAUSES[0]
        with contextlib.suppress(IllegalStateError):
            self._raw.pause(tp)
            until = now + pause
            self._stopped[tp] = _Stopped(reason, pause, until)
            if before is None or before.reason != reason:
                offset = patches.positions(self._raw).get(tp)
                log.error(
                    "consumer.partition_stopped",
                    topic=self._partition(tp).topic,
                    partition=tp.partition,
                    offset=offset,
                    reason=reason,
                )
        self._show_stopped()

    def _try_stopped_again(self) -> None:
        now = asyncio.get_running_loop().time()
        for tp, stopped in self._stopped.items():
            if stopped.until <= now and tp in self._raw.paused():
                self._raw.resume(tp)
                self._limits[tp] = 1

    def _went_on(self, tps: Iterable[TopicPartition]) -> None:
        for tp in tps:
            self._stopped.pop(tp, None)
            log.info("consumer.partition_resumed", topic=self._partition(tp).topic, partition=tp.partition)
        self._show_stopped()

    def _show_stopped(self) -> None:
        counts = Counter((self._partition(tp).topic, s.reason) for tp, s in self._stopped.items())
        for labels in self._shown | counts.keys():
            self._metrics.stopped.labels(*labels).set(counts[labels])
        self._shown |= counts.keys()

    # -- offsets ---------------------------------------------------------------------------------------------

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        # aiokafka retries a commit forever, hence the timeout. CommitFailedError and IllegalStateError both
        # mean that the group was rebalanced.
        committed = {self._topic_partition(p): offset for p, offset in offsets.items()}
        try:
            await asyncio.wait_for(self._raw.commit(committed), COMMIT_SECONDS)
        except (CommitFailedError, IllegalStateError) as error:
            raise RebalancedError from error
        except (KafkaError, OSError, TimeoutError) as error:
            raise TransientError(f"commit failed: {type(error).__name__}") from error
        self._committed |= committed

    def rewind(self, offsets: Mapping[Partition, int]) -> None:
        for partition, offset in offsets.items():
            with contextlib.suppress(IllegalStateError):
                self._raw.seek(self._topic_partition(partition), offset)

    async def backlog(self) -> dict[Partition, Backlog]:
        by_topic = groupby(sorted(self._raw.assignment()), key=lambda tp: tp.topic)
        asked = [self._backlog_of(list(tps)) for _, tps in by_topic]
        answers = await asyncio.gather(*asked or [self._sign_of_life()], return_exceptions=True)
        found: dict[Partition, Backlog] = {}
        for answer in answers:
            if isinstance(answer, dict):
                found |= answer
            elif not isinstance(answer, KafkaError | OSError | TimeoutError):
                raise answer
        if not any(isinstance(answer, dict) for answer in answers):
            raise TransientError("the broker does not answer")
        return found

    async def _sign_of_life(self) -> dict[Partition, Backlog]:
        """A member without partitions cannot know whether others have them, or the broker is silent."""
        async with asyncio.timeout(ANSWER_SECONDS):
            if not await self._raw._client.force_metadata_update():
                raise TimeoutError
        return {}

    async def _backlog_of(self, tps: Sequence[TopicPartition]) -> dict[Partition, Backlog]:
        """The backlog of partitions of one topic: if it is gone, the others have their answer all the
        same."""
        async with asyncio.timeout(ANSWER_SECONDS):
            ends = patches.fresh_ends(self._raw, FRESH_SECONDS)
            if not ends.keys() >= set(tps):
                ends = await self._raw.end_offsets(tps)
            unknown = [tp for tp in tps if tp not in self._committed]
            if unknown:
                starts = await self._raw.beginning_offsets(unknown)
                for tp in unknown:
                    committed = await self._raw.committed(tp)
                    # A commit of this member may have come first.
                    self._committed.setdefault(tp, starts[tp] if committed is None else committed)
        return {self._partition(tp): Backlog(self._committed.get(tp, ends[tp]), ends[tp]) for tp in tps}

    async def lag(self) -> dict[Partition, int]:
        lags = {}
        for tp, position in patches.positions(self._raw).items():
            end = self._raw.highwater(tp)
            if end is not None:
                lags[self._partition(tp)] = max(0, end - position)
        return lags

    async def positions(self) -> dict[Partition, int]:
        return {self._partition(tp): position for tp, position in patches.positions(self._raw).items()}

    def assignment(self) -> Collection[Partition]:
        return {self._partition(tp) for tp in self._raw.assignment()}

    def partitions(self) -> int:
        return sum(len(self._raw.partitions_for_topic(topic) or ()) for topic in self._raw.subscription())

    async def stop(self) -> None:
        self.forget()
        await stop(self._raw)

    def _records(self, batches: Mapping[TopicPartition, Sequence[Any]]) -> list[Record]:
        if self._stopped and (on := self._stopped.keys() & batches.keys()):
            self._went_on(on)
        return [self._record(tp, r) for tp, records in batches.items() for r in records]


def _denies(error: Exception, tp: TopicPartition) -> bool:
    return isinstance(error, TopicAuthorizationFailedError) and tp.topic in error.args
