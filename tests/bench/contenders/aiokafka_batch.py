"""The limit: raw aiokafka by hand, one transaction per batch; no metrics, waves, retries or dead letters."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.bench.contenders.job import BATCH, FETCH_SECONDS, Job
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
        max_partition_fetch_bytes=2 * 1024 * 1024,
    )
    await consumer.start()
    while True:
        batches = await consumer.getmany(timeout_ms=int(FETCH_SECONDS * 1000), max_records=BATCH)
        records = [of_aiokafka(raw) for raws in batches.values() for raw in raws]
        if records:
            await job.apply(records)
            await consumer.commit(
                {TopicPartition(tp.topic, tp.partition): raws[-1].offset + 1 for tp, raws in batches.items()}
            )
