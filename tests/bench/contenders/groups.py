"""Our contender: the consumer of the groups service."""

from __future__ import annotations

import asyncio

from services.groups.app import build
from tests.bench.contenders.job import Job


def run(job: Job) -> None:
    consumer = build(job.settings).consumer
    assert consumer is not None
    asyncio.run(consumer.run(asyncio.Event()))
