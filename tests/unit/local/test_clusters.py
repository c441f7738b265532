"""Several nodes of each store survive the loss of one."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo import AsyncMongoClient

from infra.local.errors import LocalError
from infra.local.stack import LocalStack
from services.shared.messaging import KafkaBroker, Message

kafka = pytest.mark.kafka


@kafka
async def test_three_brokers_keep_what_they_acknowledged_when_one_is_killed(tmp_path):
    async with LocalStack(tmp_path, services=(), broker="kafka", brokers=3, restart=False) as stack:
        broker = KafkaBroker(stack.kafka, client_id="test")
        await publish(broker, range(100))
        stack.processes["kafka-2"].kill()
        await publish(broker, range(100, 200))
        assert sorted(await read(broker, 200)) == list(range(200))


@kafka
async def test_a_kept_log_is_served_again_on_other_ports(tmp_path):
    for start in (0, 50):
        async with LocalStack(tmp_path, services=(), broker="kafka") as stack:
            broker = KafkaBroker(stack.kafka, client_id="test")
            await publish(broker, range(start, start + 50))
            assert sorted(await read(broker, start + 50)) == list(range(start + 50))


@kafka
async def test_three_mongods_elect_another_primary(tmp_path):
    async with LocalStack(tmp_path, services=(), broker="kafka", mongo_nodes=3) as stack:
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(stack.mongo)
        async with client:
            await client.sample.things.insert_one({"_id": 1})
            before = (await client.admin.command("hello"))["primary"]
            await client.admin.command("replSetStepDown", 30)
            await client.sample.things.insert_one({"_id": 2})
            assert (await client.admin.command("hello"))["primary"] != before
            assert await client.sample.things.count_documents({}) == 2


async def test_the_embedded_broker_is_one_node(tmp_path):
    with pytest.raises(LocalError, match="several need --broker kafka"):
        async with LocalStack(tmp_path, broker="embedded", brokers=3):
            pass


async def publish(broker: KafkaBroker, numbers: range) -> None:
    producer = await broker.producer()
    await producer.publish([Message("sangathan.members", b"%d" % n, b"%d" % n, ()) for n in numbers])
    await producer.stop()


async def read(broker: KafkaBroker, count: int) -> list[int]:
    consumer = await broker.consumer(f"reader-{count}", ["sangathan.members"])
    numbers: list[int] = []
    for _ in range(100):
        numbers += [int(record.value or b"") for record in await consumer.fetch(1000, 0.3)]
        if len(numbers) >= count:
            break
    await consumer.stop()
    return numbers
