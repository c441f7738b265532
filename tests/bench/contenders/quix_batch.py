"""Quix Streams: a sink receives a checkpoint's messages by partition; offsets are committed after it has
written.

Quix Streams is synchronous (confluent-kafka): the transaction runs on its own event loop.
"""

from __future__ import annotations

import asyncio

from quixstreams import Application
from quixstreams.sinks import BatchingSink, SinkBatch

from tests.bench.contenders.job import BATCH, FETCH_SECONDS, Job
from tests.bench.contenders.records import record


class Transactions(BatchingSink):
    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)

    def write(self, batch: SinkBatch) -> None:
        for items in batch.iter_chunks(n=BATCH):
            records = [record(batch.partition, i.offset, i.key, i.value, i.headers) for i in items]
            self._loop.run_until_complete(self._job.apply(records))


def run(job: Job) -> None:
    app = Application(
        broker_address=job.bootstrap,
        consumer_group=job.group,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        commit_every=BATCH,
        commit_interval=FETCH_SECONDS,
        loglevel="WARNING",
    )
    topic = app.topic(job.topic, key_deserializer="bytes", value_deserializer="bytes")
    app.dataframe(topic).sink(Transactions(job))
    app.run()
