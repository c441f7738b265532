"""Patches of aiokafka's internals, written for aiokafka 0.14.

aiokafka has no setting or method for any of this. tests/unit/messaging/test_aiokafka_patches.py fails when a
new version changes the internals or no longer needs a patch: check here first when upgrading aiokafka."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, UnknownMemberIdError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import JoinGroupRequest, LeaveGroupRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest

log = structlog.get_logger(__name__)

PREFETCH_SECONDS: Final = 1.0
"""How long fetched records may wait for the consumer before aiokafka fetches from other partitions: longer
than a batch takes."""
EMPTY_PAUSES: Final = (0.02, 0.08)
"""Seconds between an early empty answer and the next fetch: the first pause, doubling up to the second."""
METADATA_PAUSES: Final = (0.05, 1.0)
"""Seconds between updates of the metadata that follow each other: the first pause, doubling up to the
second."""
SILENT_SECONDS: Final = 5.0
"""A call without an answer for so long is logged. The broker holds a fetch for a second at most."""
STOP_SECONDS: Final = 1.0
NO_GENERATION: Final = -1


class Calls(Protocol):
    """Is told how the broker answers: `call` is fetch, produce, or for failures also metadata or other."""

    def answered(self, call: str) -> None: ...

    def failed(self, call: str) -> None: ...


def keep_prefetching(consumer: Any) -> None:
    """Stop idle partitions from delaying a backlog in another partition.

    While fetched records wait for the consumer, aiokafka asks after 0.1 s for the other partitions alone. It
    then sends that broker no other fetch until the answer, which comes only after `fetch_max_wait_ms` if
    there are no records. `python -m tests.bench poison`: 0.70 of the clean rate without the patch, 0.96 with
    it (half of that difference).
    """
    consumer._fetcher._prefetch_backoff = PREFETCH_SECONDS


def stay_the_same_member(consumer: Any) -> None:
    """Join a group again as the same member while the broker knows it, as Kafka's own client does.

    Told that its generation is old, aiokafka joins as a new member, and the group waits for the old one until
    its session ends, 10 s later. The embedded broker answers so to each commit during a rebalance, and then
    makes the member that is gone the leader, for whom the others wait for ever.
    """
    coordinator = consumer._coordinator
    ask = coordinator._send_req

    def reset_generation() -> None:
        coordinator.generation = NO_GENERATION
        coordinator.request_rejoin()

    async def watched_ask(request: Any) -> Any:
        response = await ask(request)
        unknown = getattr(response, "error_code", 0) == UnknownMemberIdError.errno
        if unknown or isinstance(request, LeaveGroupRequest):
            coordinator.member_id = JoinGroupRequest.UNKNOWN_MEMBER_ID
        return response

    coordinator.reset_generation, coordinator._send_req = reset_generation, watched_ask


def wait_for_records(consumer: Any, fetch_wait_ms: int) -> None:
    """Pause before the next fetch when a broker reports no records without having waited for any.

    Apache Kafka waits (`fetch_max_wait_ms`). The embedded broker does not: each idle consumer would send
    3,000 fetches a second, which keeps a core busy. With the patch it sends twelve, which take about 1 %; on
    Apache Kafka it sends one a second.
    """
    send = consumer._client.send
    pauses: dict[int, float] = {}

    async def patient(node_id: int, request: Any, **options: Any) -> Any:
        began = asyncio.get_running_loop().time()
        response = await send(node_id, request, **options)
        if isinstance(request, FetchRequest):
            waited = asyncio.get_running_loop().time() - began
            if _has_records(response) or waited * 1000 >= fetch_wait_ms / 2:
                pauses.pop(node_id, None)
            else:
                pause = pauses.get(node_id, EMPTY_PAUSES[0])
                pauses[node_id] = min(2 * pause, EMPTY_PAUSES[1])
                await asyncio.sleep(pause)
        return response

    consumer._client.send = patient


def watch_calls(client: Any, calls: Calls, life: str) -> None:
    """Report answers and failures of an `AIOKafkaClient`, which repeats failed calls by itself and says
    nothing, and log calls without an answer.

    Any answer is a sign of life, reported as the call `life`: a consumer that has enough records at hand, or
    whose partitions are stopped, fetches nothing, and its heartbeats are answered.
    """
    send, update = client.send, client._metadata_update

    async def watched_send(node_id: int, request: Any, **options: Any) -> Any:
        call = _name(request)
        try:
            with _noticed(call):
                response = await send(node_id, request, **options)
        except KafkaError:
            calls.failed(call)
            raise
        calls.answered(life)
        if call in ("fetch", "produce") and _has_errors(response):
            calls.failed(call)
        return response

    async def watched_update(*arguments: Any) -> bool:
        with _noticed("metadata"):
            updated: bool = await update(*arguments)
        if not updated:
            calls.failed("metadata")
        return updated

    client.send, client._metadata_update = watched_send, watched_update


@contextlib.contextmanager
def _noticed(call: str) -> Iterator[None]:
    """Log that a call has had no answer, once. Calls of the group may take minutes by design."""
    if call == "other":
        yield
        return
    loop = asyncio.get_running_loop()
    timer = loop.call_later(
        SILENT_SECONDS, lambda: log.warning("broker.silent", call=call, seconds=SILENT_SECONDS)
    )
    try:
        yield
    finally:
        timer.cancel()


def _name(request: Any) -> str:
    if isinstance(request, FetchRequest):
        return "fetch"
    if isinstance(request, ProduceRequest):
        return "produce"
    return "metadata" if isinstance(request, OffsetRequest) else "other"


def _has_errors(response: Any) -> bool:
    """A partition is (number, error code, ...) in answers to fetches and productions alike."""
    return any(answer[1] for _, partitions in response.topics for answer in partitions)


def pace_metadata(client: Any) -> None:
    """Pause between updates of the metadata that follow each other.

    While a partition has no leader, because its topic is gone, aiokafka asks for the metadata as fast as the
    broker answers, and logs an error each time: 700 lines a second.
    """
    update = client._metadata_update
    pause, last = METADATA_PAUSES[0], float("-inf")

    async def paced(*arguments: Any) -> bool:
        nonlocal pause, last
        clock = asyncio.get_running_loop().time
        since = clock() - last
        pause = min(METADATA_PAUSES[1], pause * 2) if since < 2 * pause else METADATA_PAUSES[0]
        await asyncio.sleep(max(0.0, pause - since))
        last = clock()
        updated: bool = await update(*arguments)
        return updated

    client._metadata_update = paced


def positions(consumer: Any) -> dict[TopicPartition, int]:
    """The next offset to read of each assigned partition for which it is known.

    `AIOKafkaConsumer.position` waits until it is known, which may be never: where the log has a gap, only our
    own code decides where to go on.
    """
    return {tp: state.position for tp, state in _states(consumer).items() if state.has_valid_position}


def _assignment(consumer: Any) -> Any:
    subscription = consumer._subscription.subscription
    return subscription.assignment if subscription else None


def _states(consumer: Any) -> dict[TopicPartition, Any]:
    assignment = _assignment(consumer)
    return {tp: assignment.state_value(tp) for tp in assignment.tps} if assignment else {}


def fresh_ends(consumer: Any, seconds: float) -> dict[TopicPartition, int]:
    """The end of each partition that was fetched from in the last seconds, as the broker answered then."""
    since = (time.time() - seconds) * 1000
    states = _states(consumer).items()
    return {tp: state.highwater for tp, state in states if state.timestamp and state.timestamp > since}


def bookmark(consumer: Any, only: TopicPartition | None = None) -> Callable[[], None]:
    """Remember the positions (of one partition); the result goes back to them, unless the partitions were
    assigned anew since.

    When one partition's records cannot be decoded, `getmany` raises, has moved the positions of others, and
    drops their records: they would be skipped.
    """
    assignment, before = _assignment(consumer), positions(consumer)

    def go_back() -> None:
        if assignment and assignment.active:
            for tp, position in before.items():
                if only in (None, tp):
                    consumer.seek(tp, position)

    return go_back


async def abandon(producer: Any) -> None:
    """Stop a producer without waiting for what it has not sent: `AIOKafkaProducer.stop` waits for that, and
    where it cannot be sent, for ever."""
    producer._closed = True
    for stop in (producer._sender.close, producer.client.close):
        with contextlib.suppress(Exception):
            await asyncio.wait_for(stop(), STOP_SECONDS)


def _has_records(response: Any) -> bool:
    """True also for errors, which must not be delayed. A partition is (number, error code, high watermark,
    ..., records)."""
    return any(answer[1] or answer[-1] for _, partitions in response.topics for answer in partitions)
