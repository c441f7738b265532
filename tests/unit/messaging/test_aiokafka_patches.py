"""The private parts of aiokafka that we patch are where we patch them: raising aiokafka must look here."""

from __future__ import annotations

import inspect

import aiokafka
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.protocol.fetch import FetchRequest

from services.shared.messaging.kafka import patches


def test_the_version_that_the_patches_were_written_for() -> None:
    assert aiokafka.__version__.startswith("0.14."), "read kafka/patches.py, then raise this version"


def test_the_fetcher_pauses_its_prefetching_by_the_attribute_that_we_set() -> None:
    source = inspect.getsource(Fetcher)
    assert "self._prefetch_backoff = prefetch_backoff" in source
    assert source.count("self._prefetch_backoff") > 1, "it is set and no longer used"


async def test_requests_go_through_the_client_method_that_we_wrap() -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
    asked: list[object] = []

    class Response:
        topics = ((b"t", ((0, 0, 5, b"records"),)),)

    async def send(node_id: int, request: object) -> Response:
        asked.append(request)
        return Response()

    consumer._client.send = send
    patches.wait_for_records(consumer, 1000)
    assert isinstance(await consumer._client.send(1, "any request"), Response)
    assert asked == ["any request"]
    assert "self._client.send(" in inspect.getsource(Fetcher)
    assert FetchRequest is not None
