"""FastStream's plain subscriber, acknowledged by hand after the transaction."""

from __future__ import annotations

import asyncio
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker, KafkaMessage

from tests.bench.contenders.job import Job
from tests.bench.contenders.records import of_aiokafka


def run(job: Job) -> None:
    broker = KafkaBroker(job.bootstrap, logger=None)

    @broker.subscriber(
        job.topic, group_id=job.group, auto_offset_reset="earliest", ack_policy=AckPolicy.MANUAL
    )
    async def handle(body: Any, message: KafkaMessage) -> None:
        await job.apply([of_aiokafka(message.raw_message)])
        await message.ack()

    asyncio.run(FastStream(broker, logger=None).run())
