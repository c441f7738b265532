"""The producer sends batches of records; messages spread over several batches keep their order."""

from __future__ import annotations

from services.shared.messaging import Message, Record
from tests.integration.messaging.conftest import Bench

SUBJECTS = [f"subject-{n}".encode() for n in range(12)]
COUNT = 3_000


async def test_a_subject_keeps_its_order_and_its_partition_over_many_batches(bench: Bench) -> None:
    """Three megabytes at once, so that every partition takes several batches of 256 KiB."""
    messages = [
        Message(bench.topic, SUBJECTS[n % len(SUBJECTS)], b"%d" % n + b" " * 1000, (("n", b"%d" % n),))
        for n in range(COUNT)
    ]
    producer = await bench.broker.producer()
    await producer.publish(messages)
    await producer.stop()

    records: list[Record] = []
    consumer = await bench.broker.consumer("order", [bench.topic])
    for _ in range(30):
        records += await consumer.fetch(500, 1.0)
        if len(records) >= COUNT:
            break
    await consumer.stop()

    assert sorted(int(r.value or b"") for r in records) == list(range(COUNT))
    for subject in SUBJECTS:
        its = [r for r in records if r.key == subject]
        assert len({r.partition for r in its}) == 1
        assert [int(r.value or b"") for r in its] == sorted(int(r.value or b"") for r in its)
        assert its[0].headers == (("n", its[0].value.split()[0]),)  # type: ignore[union-attr]
