"""FastStream with `batch=True`, acknowledged by hand after the transaction."""

from __future__ import annotations

import asyncio
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker, KafkaMessage

from tests.bench.contenders.job import BATCH, FETCH_SECONDS, Job
from tests.bench.contenders.records import of_aiokafka


def run(job: Job) -> None:
    broker = KafkaBroker(job.bootstrap, logger=None)

    @broker.subscriber(
        job.topic,
        group_id=job.group,
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.MANUAL,
        batch=True,
        batch_timeout_ms=int(FETCH_SECONDS * 1000),
        max_records=BATCH,
    )
    async def handle(bodies: list[Any], message: KafkaMessage) -> None:
        raws: Any = message.raw_message
        await job.apply([of_aiokafka(raw) for raw in raws])
        await message.ack()

    asyncio.run(FastStream(broker, logger=None).run())
