"""faust-streaming: an agent that takes events in batches and acknowledges them after the transaction.

Faust commits acknowledged offsets in the background (`broker_commit_every`), and only acknowledged ones.
"""

from __future__ import annotations

import tempfile
from typing import Any

import faust

from tests.bench.contenders.job import BATCH, FETCH_SECONDS, Job
from tests.bench.contenders.records import record


def run(job: Job) -> None:
    app = faust.App(
        job.group,
        broker=f"kafka://{job.bootstrap}",
        key_serializer="raw",
        value_serializer="raw",
        broker_commit_every=BATCH,
        consumer_auto_offset_reset="earliest",
        topic_disable_leader=True,
        topic_allow_declare=False,
        web_enabled=False,
        datadir=tempfile.mkdtemp(prefix="sangathan-bench-faust-"),
        loghandlers=[],
    )

    @app.agent(app.topic(job.topic, key_type=bytes, value_type=bytes))
    async def drain(stream: Any) -> None:
        async for events in stream.take_events(BATCH, within=FETCH_SECONDS):
            await job.apply([_record(event.message) for event in events])

    faust.Worker(app, loglevel="WARNING").execute_from_commandline()


def _record(message: Any) -> Any:
    headers = message.headers.items() if isinstance(message.headers, dict) else message.headers
    return record(message.partition, message.offset, message.key, message.value, headers)
