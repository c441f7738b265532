"""A batch that cannot be read stops its own partition, aloud; gaps and a silent broker are noticed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import aiokafka.codec
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.consumer import fetcher
from structlog.testing import capture_logs

from infra.local.broker import BROKERS, DEFAULT_BROKER
from infra.local.ports import HOST, Ports
from services.shared.messaging import KafkaBroker, Partition, Record, TopicSpec, create_topics
from services.shared.messaging.consuming import lag
from services.shared.messaging.kafka import client, consumer, decompression, patches
from services.shared.messaging.kafka.consumer import KafkaConsumer
from services.shared.messaging.publishing import relay
from tests.integration.messaging.conftest import Bench, joined, on_the_real_things_alone

pytestmark = [on_the_real_things_alone]
CODECS = ("gzip", "snappy", "lz4", "zstd")
Patch = pytest.MonkeyPatch


def broker(bench: Bench, bootstrap: str, on_log_gap: Literal["stop", "continue"] = "stop") -> KafkaBroker:
    return KafkaBroker(bootstrap, client_id="tests", metrics=bench.metrics.broker, on_log_gap=on_log_gap)


async def send(bootstrap: str, topic: str, partition: int, values: list[bytes], codec: str | None) -> None:
    """Write one batch for each value."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, compression_type=codec)
    await producer.start()
    for value in values:
        await producer.send_and_wait(topic, value, key=b"k", partition=partition)
    await producer.stop()


async def take(consumer: Any, enough: Callable[[list[Record]], bool], seconds: float = 20) -> list[Record]:
    records: list[Record] = []
    deadline = time.monotonic() + seconds
    while not enough(records) and time.monotonic() < deadline:
        records += await consumer.fetch(500, 0.2)
    return records


@pytest.fixture
def said() -> Iterator[list[Any]]:
    """The lines that the code logs, whatever other tests have made of the configuration."""
    with capture_logs() as lines:
        yield lines


def values(records: list[Record], partition: int) -> list[bytes]:
    return [r.value or b"" for r in records if r.partition.number == partition]


def count(bench: Bench, name: str, **labels: str) -> float:
    return bench.registry.get_sample_value(f"sangathan_{name}", labels) or 0.0


@pytest.mark.parametrize("codec", CODECS)
async def test_every_codec_of_kafka_is_read(bench: Bench, kafka_bootstrap: str, codec: str) -> None:
    sent = [b"%d" % n * 100 for n in range(5)]
    await send(kafka_bootstrap, bench.topic, 0, sent, codec)
    member = await broker(bench, kafka_bootstrap).consumer(bench.group, [bench.topic])
    assert values(await take(member, lambda r: len(r) >= 5), 0) == sent
    await member.stop()


def without_the_codec(patch: Patch) -> None:
    patch.setattr(aiokafka.codec, "has_zstd", lambda: False)


def not_what_the_codec_expects(patch: Patch) -> None:
    def decode(payload: bytes, into: bytearray) -> int:
        raise RuntimeError("Unknown frame descriptor")

    zstd = SimpleNamespace(decompress_into=decode)
    errors = {"DecompressionError": ZeroDivisionError}
    patch.setattr(decompression, "cramjam", SimpleNamespace(zstd=zstd, **errors))


def damaged(patch: Patch) -> None:
    original = fetcher.MemoryRecords
    patch.setattr(fetcher, "MemoryRecords", lambda data: original(data.replace(b"unreadable", b"unreadablE")))


@pytest.mark.parametrize(
    ("harm", "codec", "reason"),
    [
        (without_the_codec, "zstd", "codec"),
        (not_what_the_codec_expects, "zstd", "corrupt"),
        (damaged, None, "corrupt"),
    ],
)
async def test_an_unreadable_batch_stops_its_partition_and_no_other(
    bench: Bench,
    kafka_bootstrap: str,
    monkeypatch: Patch,
    said: list[Any],
    harm: Callable[[Patch], None],
    codec: str | None,
    reason: str,
) -> None:
    monkeypatch.setattr(consumer, "PAUSES", (0.3, 0.3))
    monkeypatch.setattr(consumer, "FRESH_SECONDS", 0.1)
    before, others = [b"before %d" % n for n in range(20)], [b"other %d" % n for n in range(50)]
    await send(kafka_bootstrap, bench.topic, 0, before, None)
    await send(kafka_bootstrap, bench.topic, 0, [b"unreadable"], codec)
    await send(kafka_bootstrap, bench.topic, 0, [b"after"], None)
    await send(kafka_bootstrap, bench.topic, 1, others, None)
    await send(kafka_bootstrap, bench.topic, 2, others, "gzip")
    with pytest.MonkeyPatch.context() as patch:
        harm(patch)
        member = await broker(bench, kafka_bootstrap).consumer(bench.group, [bench.topic])
        records = await take(member, lambda r: len(r) >= 120 and bool(member._stopped))
        await send(kafka_bootstrap, bench.topic, 1, [b"later"], None)
        records += await take(member, lambda r: len(r) >= 1)
        assert values(records, 0) == before
        assert values(records, 1) == [*others, b"later"]
        assert values(records, 2) == others
        stopped = {"topic": bench.topic, "reason": reason}
        assert count(bench, "consumer_stopped_partitions", **stopped) == 1
        assert count(bench, "consumer_fetch_errors_total", reason=reason) > 0
        stops = [line["offset"] for line in said if line["event"] == "consumer.partition_stopped"]
        assert stops == [20], "it stops at the record itself, and says so once"
        await send(kafka_bootstrap, bench.topic, 0, [b"more"], None)
        await asyncio.sleep(0.2)
        backlog = (await member.backlog())[Partition(bench.topic, 0)]
        assert (backlog.committed, backlog.end) == (0, 23)
    rest = await take(member, lambda r: len(r) >= 3)
    assert values(rest, 0) == [b"unreadable", b"after", b"more"]
    assert count(bench, "consumer_stopped_partitions", **stopped) == 0
    await member.stop()


# -- gaps ----------------------------------------------------------------------------------------------


async def lose(bootstrap: str, topic: str, before: int) -> None:
    """Delete the records of partition 0 before this offset, as a retention does."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    await client.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=before)})
    await client.close()


GAPS = {
    # committed, deleted before: lost, where it continues
    "some_of_the_unread_records": (2, 7, 5, 7),
    "all_records": (2, 10, 8, 10),
    "a_commit_beyond_the_end": (50, 0, 40, 0),
}


@pytest.mark.parametrize("policy", ["stop", "continue"])
@pytest.mark.parametrize("gap", GAPS)
async def test_a_gap_in_the_log_is_told_and_stops_or_goes_on(
    bench: Bench, kafka_bootstrap: str, gap: str, policy: Literal["stop", "continue"]
) -> None:
    committed, deleted, lost, start = GAPS[gap]
    await send(kafka_bootstrap, bench.topic, 0, [b"%d" % n for n in range(10)], None)
    await send(kafka_bootstrap, bench.topic, 1, [b"other"], None)
    kafka = broker(bench, kafka_bootstrap, policy)
    await kafka.place(bench.group, {Partition(bench.topic, 0): committed})
    if deleted:
        await lose(kafka_bootstrap, bench.topic, deleted)

    def told(member: KafkaConsumer, expected: int, records: list[Record]) -> bool:
        counted = count(bench, "log_gap_records_total", topic=bench.topic) == lost
        return len(records) >= expected and counted and bool(member._stopped) == (policy == "stop")

    for _ in range(2):  # the second life counts nothing anew
        member = await kafka.consumer(bench.group, [bench.topic])
        expected = 1 if policy == "stop" else 11 - start
        found = await take(member, partial(told, member, expected), 6)
        stopped = count(bench, "consumer_stopped_partitions", topic=bench.topic, reason="log_gap")
        assert values(found, 1) == [b"other"]
        assert values(found, 0) == ([] if policy == "stop" else [b"%d" % n for n in range(start, 10)])
        assert stopped == (policy == "stop")
        assert count(bench, "log_gap_records_total", topic=bench.topic) == lost
        known, _ = await kafka.marks(bench.group, [bench.topic])
        assert known[Partition(bench.topic, 0)] == (committed if policy == "stop" else start)
        await member.stop()


async def test_a_new_group_begins_at_the_start_of_the_log(bench: Bench, kafka_bootstrap: str) -> None:
    """Also where that is not offset 0, which is told and stops nothing."""
    await send(kafka_bootstrap, bench.topic, 0, [b"%d" % n for n in range(10)], None)
    await lose(kafka_bootstrap, bench.topic, 4)
    member = await broker(bench, kafka_bootstrap).consumer(bench.group, [bench.topic])
    assert values(await take(member, lambda r: len(r) >= 6), 0) == [b"%d" % n for n in range(4, 10)]
    assert count(bench, "log_gap_records_total", topic=bench.topic) == 4
    await member.stop()


# -- a silent broker -----------------------------------------------------------------------------------


@pytest.fixture
async def own_broker(tmp_path: Path, ports: Ports) -> AsyncIterator[tuple[str, int]]:
    """`host:port` and process id of a broker for this test alone, to be frozen."""
    port = ports.take()
    [child] = BROKERS[DEFAULT_BROKER](tmp_path / "data", tmp_path, [port], ports, restart=False)
    await child.start()
    yield f"{HOST}:{port}", child.pid
    os.kill(child.pid, signal.SIGCONT)
    await child.stop()


@pytest.mark.parametrize("traffic", [True, False], ids=["with_traffic", "idle"])
async def test_a_frozen_broker_shows_within_seconds_and_is_forgiven(
    bench: Bench,
    own_broker: tuple[str, int],
    monkeypatch: Patch,
    said: list[Any],
    traffic: bool,
) -> None:
    bootstrap, pid = own_broker
    monkeypatch.setattr(patches, "SILENT_SECONDS", 1.5)
    monkeypatch.setattr(lag, "SILENT_SECONDS", 2.0)
    monkeypatch.setattr(client, "REQUEST_MS", 3000)
    monkeypatch.setattr(relay, "PROBE_SECONDS", 0.5)
    monkeypatch.setattr(relay, "PUBLISH_SECONDS", 3.0)
    await create_topics(bootstrap, [TopicSpec(bench.topic, 3, 1)])
    bench.broker = broker(bench, bootstrap)
    bench.run(bench.relay())
    bench.run(bench.consumer())
    await bench.stage((joined(), 1))
    await bench.effects_are(1, 20)
    answers = {call: {"call": call} for call in ("fetch", "produce")}

    def answered(call: str) -> float:
        return count(bench, "broker_last_answer_timestamp_seconds", **answers[call])

    async def fresh() -> bool:
        return all(time.time() - answered(call) < 2 for call in answers)

    async def caught_up() -> bool:
        return count(bench, "consumer_lag_seconds", topic=bench.topic) == 0

    await bench.until(fresh, 10)
    await bench.until(caught_up, 10)
    os.kill(pid, signal.SIGSTOP)
    if traffic:
        await bench.stage((joined(), 1))

    async def noticed() -> bool:
        return (
            all(time.time() - answered(call) > 3 for call in answers)
            and count(bench, "consumer_lag_seconds", topic=bench.topic) > 3
            and count(bench, "broker_errors_total", call="fetch") > 0
            and count(bench, "broker_errors_total", call="produce" if traffic else "metadata") > 0
        )

    await bench.until(noticed, 25)
    earlier = count(bench, "consumer_lag_seconds", topic=bench.topic)
    await asyncio.sleep(1)
    assert count(bench, "consumer_lag_seconds", topic=bench.topic) >= earlier + 0.9
    assert "broker.silent" in {line["event"] for line in said}

    os.kill(pid, signal.SIGCONT)
    if traffic:
        await bench.effects_are(2, 40)
    await bench.until(fresh, 30)
    await bench.until(caught_up, 20)


async def test_the_lag_is_what_the_broker_says_while_nothing_is_fetched(
    bench: Bench, kafka_bootstrap: str
) -> None:
    """An open fuse, with records that arrive after the last fetch."""
    bench.broker = broker(bench, kafka_bootstrap)
    bench.run(bench.consumer())
    await bench.publish((joined(), 1))
    await bench.effects_are(1)
    await bench.fuse.trip()
    await asyncio.sleep(1.5)
    await bench.publish(*((joined(), 1) for _ in range(30)))

    async def seen() -> bool:
        records = count(bench, "consumer_lag_records", topic=bench.topic)
        return records == 30 and count(bench, "consumer_lag_seconds", topic=bench.topic) > 2

    await bench.until(seen, 10)
