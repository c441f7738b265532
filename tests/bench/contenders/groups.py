"""Our contender: the consumer of the groups service."""

from __future__ import annotations

import asyncio

from services.groups.handlers import Handlers
from services.groups.subscriptions import subscriptions, unit_of
from tests.bench.contenders.job import Job


def run(job: Job) -> None:
    job.runtime.subscribe(subscriptions(Handlers(job.placing)), affinity=unit_of)
    assert job.runtime.consumer is not None
    asyncio.run(job.runtime.consumer.run(asyncio.Event()))
