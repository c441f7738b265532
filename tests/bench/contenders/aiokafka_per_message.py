"""Raw aiokafka, with a transaction and a commit for each message."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.bench.contenders.job import Job
from tests.bench.contenders.records import of_aiokafka


def run(job: Job) -> None:
    asyncio.run(_drain(job))


async def _drain(job: Job) -> None:
    consumer = AIOKafkaConsumer(
        job.topic,
        bootstrap_servers=job.bootstrap,
        group_id=job.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    async for raw in consumer:
        await job.apply([of_aiokafka(raw)])
        await consumer.commit({TopicPartition(raw.topic, raw.partition): raw.offset + 1})
