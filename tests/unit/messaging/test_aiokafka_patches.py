"""The private parts of aiokafka that we patch are where we patch them: raising aiokafka must look here."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from types import SimpleNamespace

import aiokafka
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, codec
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance, GroupCoordinator
from aiokafka.consumer.subscription_state import TopicPartitionState
from aiokafka.errors import CorruptRecordException, IllegalGenerationError, KafkaError, UnknownMemberIdError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from services.shared.messaging.kafka import decompression, patches


def test_the_version_that_the_patches_were_written_for() -> None:
    assert aiokafka.__version__.startswith("0.14."), "read kafka/patches.py, then raise this version"


def test_the_fetcher_pauses_its_prefetching_by_the_attribute_that_we_set() -> None:
    source = inspect.getsource(Fetcher)
    assert "self._prefetch_backoff = prefetch_backoff" in source
    assert source.count("self._prefetch_backoff") > 1, "it is set and no longer used"


async def test_requests_go_through_the_client_method_that_we_wrap() -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
    asked: list[object] = []

    class Response:
        topics = ((b"t", ((0, 0, 5, b"records"),)),)

    async def send(node_id: int, request: object) -> Response:
        asked.append(request)
        return Response()

    consumer._client.send = send
    patches.wait_for_records(consumer, 1000)
    assert isinstance(await consumer._client.send(1, "any request"), Response)
    assert asked == ["any request"]
    assert "self._client.send(" in inspect.getsource(Fetcher)
    assert FetchRequest is not None


async def test_empty_answers_are_asked_for_ever_more_slowly_until_there_are_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
    slept: list[float] = []
    answers = iter([b"", b"", b"", b"", b"records", b""])

    class Response:
        def __init__(self, records: bytes) -> None:
            self.topics = ((b"t", ((0, 0, 5, records),)),)

    async def send(node_id: int, request: object) -> Response:
        return Response(next(answers))

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    consumer._client.send = send
    patches.wait_for_records(consumer, 1000)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    for _ in range(6):
        await consumer._client.send(1, object.__new__(FetchRequest))
    assert slept == [0.02, 0.04, 0.08, 0.08, 0.02]


class Client:
    """The part of `AIOKafkaClient` that we wrap."""

    def __init__(self) -> None:
        self.updates = 0
        self.error: KafkaError | None = None

    async def send(self, node_id: int, request: object, **options: object) -> object:
        if self.error:
            raise self.error
        return Answer()

    async def _metadata_update(self, cluster: object, topics: object) -> bool:
        self.updates += 1
        return self.error is None


class Answer:
    topics = ((b"t", ((0, 0, 5, b""), (1, 3, -1, b""))),)  # the second partition is unknown (error 3)


class Calls:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def answered(self, call: str) -> None:
        self.seen.append(f"{call} answered")

    def failed(self, call: str) -> None:
        self.seen.append(f"{call} failed")


async def test_metadata_is_not_asked_for_as_fast_as_the_broker_answers() -> None:
    client = Client()
    patches.pace_metadata(client)
    assert await client._metadata_update(None, None), "the first is answered at once"
    assert client.updates == 1
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1.5):
            while True:
                await client._metadata_update(None, None)
    assert 3 <= client.updates <= 6, "without a pause there are a thousand a second"


async def test_answers_and_failures_of_the_client_are_told() -> None:
    client, calls = Client(), Calls()
    patches.watch_calls(client, calls, "fetch")
    fetch = FetchRequest(1000, 1, 1000, 0, [])
    await client.send(1, fetch)
    assert calls.seen == ["fetch answered", "fetch failed"]
    client.error = KafkaError("gone")
    with pytest.raises(KafkaError):
        await client.send(1, fetch)
    assert not await client._metadata_update(None, None)
    assert calls.seen[2:] == ["fetch failed", "metadata failed"]


@pytest.mark.parametrize(("error", "member"), [(IllegalGenerationError, "one"), (UnknownMemberIdError, "")])
async def test_whose_generation_is_old_joins_as_the_same_member(error: type[KafkaError], member: str) -> None:
    coordinator = object.__new__(GroupCoordinator)
    coordinator.group_id, coordinator.member_id, coordinator.generation = "g", "one", 3
    coordinator._rejoin_needed_fut = asyncio.get_running_loop().create_future()

    async def answer(request: object) -> SimpleNamespace:
        return SimpleNamespace(error_code=error.errno)

    coordinator._send_req = answer
    patches.stay_the_same_member(SimpleNamespace(_coordinator=coordinator))
    await coordinator._do_heartbeat()
    assert (coordinator.member_id, coordinator.generation) == (member, -1)
    assert coordinator._rejoin_needed_fut.done()
    joining = inspect.getsource(CoordinatorGroupRebalance)
    assert "self._coordinator._send_req(request)" in joining
    assert "self._coordinator.member_id," in joining
    commit = inspect.getsource(GroupCoordinator._do_commit_offsets)
    assert "self.reset_generation()" in commit, "the patch may be needless"


def test_the_private_parts_that_we_use_are_there() -> None:
    send = inspect.getsource(AIOKafkaClient.send)
    assert "def send(self, node_id, request, *, group" in send
    assert "self._metadata_update(self.cluster, topics)" in inspect.getsource(AIOKafkaClient._md_synchronizer)
    assert "self._subscription = SubscriptionState" in inspect.getsource(AIOKafkaConsumer)
    source = inspect.getsource(TopicPartitionState)
    assert all(
        name in source for name in ("def has_valid_position", "def position", "highwater", "timestamp")
    )
    assert "self._sender.close()" in inspect.getsource(AIOKafkaProducer.stop), "abandon does the same"
    assert "drained[tp] = records" in inspect.getsource(Fetcher.fetched_records), "bookmark may be needless"


def batch(codec_: int, value: bytes) -> bytes:
    """The records of a fetch, as a producer with this codec (1 gzip, 2 snappy, 3 lz4, 4 zstd) would send
    them."""
    builder = DefaultRecordBatchBuilder(2, codec_, False, -1, -1, -1, 2**30)
    builder.append(0, 0, b"key", value, [])
    return bytes(builder.build())


def read(records: bytes) -> list[bytes]:
    batch = MemoryRecords(records).next_batch()
    assert batch is not None
    return [record.value for record in batch]


@pytest.mark.parametrize("number", [1, 2, 3, 4], ids=["gzip", "snappy", "lz4", "zstd"])
def test_a_batch_that_expands_without_end_is_refused_and_others_are_read(number: int) -> None:
    honest = b'{"unit": "BR-GAYA"}' * 5000
    assert read(batch(number, honest)) == [honest]
    bomb = batch(number, bytes(decompression.MAX_BATCH_BYTES + 1))
    with pytest.raises(CorruptRecordException):
        read(bomb)


@pytest.mark.parametrize("name", decompression.BOUNDED)
def test_decompression_answers_as_aiokafka_does(name: str) -> None:
    for data in (b"x", b"ab" * 100_000, bytes(range(256)) * 40):
        packed = getattr(codec, name.replace("decode", "encode"))(data)
        assert decompression.BOUNDED[name](packed) == getattr(codec, name)(packed) == data
    raw = codec.snappy_encode(b"ab" * 1000, xerial_compatible=False)
    assert decompression.snappy(raw) == codec.snappy_decode(raw)
    twice = codec.gzip_encode(b"one") + codec.gzip_encode(b"two")
    assert decompression.gzip(twice) == codec.gzip_decode(twice)
