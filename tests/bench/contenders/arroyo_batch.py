"""sentry-arroyo: one step gathers batches, the next runs the transaction on its own event loop, then the
commit.

arroyo is synchronous (confluent-kafka): Python fetches nothing while a transaction runs, but librdkafka's
thread does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from arroyo.backends.kafka import KafkaConsumer, KafkaPayload
from arroyo.backends.kafka.configuration import build_kafka_consumer_configuration
from arroyo.commit import IMMEDIATE
from arroyo.processing import StreamProcessor
from arroyo.processing.strategies import CommitOffsets, RunTask
from arroyo.processing.strategies.abstract import ProcessingStrategy, ProcessingStrategyFactory
from arroyo.processing.strategies.batching import BatchStep, ValuesBatch
from arroyo.types import BaseValue, Commit, Message, Partition, Topic

from tests.bench.contenders.job import BATCH, FETCH_SECONDS, Job
from tests.bench.contenders.records import record


def run(job: Job) -> None:
    consumer = KafkaConsumer(
        build_kafka_consumer_configuration({}, job.group, bootstrap_servers=[job.bootstrap])
    )
    StreamProcessor(consumer, Topic(job.topic), _Steps(job), IMMEDIATE).run()


class _Steps(ProcessingStrategyFactory[KafkaPayload]):
    def __init__(self, job: Job) -> None:
        self._job = job
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)

    def create_with_partitions(
        self, commit: Commit, partitions: Mapping[Partition, int]
    ) -> ProcessingStrategy[Any]:
        return BatchStep(BATCH, FETCH_SECONDS, RunTask(self._apply, CommitOffsets(commit)))

    def _apply(self, message: Message[ValuesBatch[KafkaPayload]]) -> None:
        self._loop.run_until_complete(self._job.apply([_record(value) for value in message.payload]))


def _record(value: BaseValue[KafkaPayload]) -> Any:
    [(partition, following)] = value.committable.items()
    payload = value.payload
    return record(partition.index, following - 1, payload.key, payload.value, payload.headers)
