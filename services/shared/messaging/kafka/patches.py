"""Patches of aiokafka's internals, written for aiokafka 0.14.

aiokafka has no setting for either. tests/unit/messaging/test_aiokafka_patches.py fails when a new
version changes the internals or no longer needs a patch: check here first when upgrading aiokafka.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiokafka.protocol.fetch import FetchRequest

PREFETCH_SECONDS: Final = 1.0
"""How long fetched records may wait for the consumer before aiokafka fetches from other partitions: longer
than a batch takes."""
RETRY_SECONDS: Final = 0.02
"""Pause between an early empty answer and the next fetch."""


def keep_prefetching(consumer: Any) -> None:
    """Stop idle partitions from delaying a backlog in another partition.

    While fetched records wait for the consumer, aiokafka asks after 0.1 s for the other partitions alone. It
    then sends that broker no other fetch until the answer, which comes only after `fetch_max_wait_ms` if
    there are no records. `python -m tests.bench poison`: 0.70 of the clean rate without the patch, 0.96 with
    it (half of that difference).
    """
    consumer._fetcher._prefetch_backoff = PREFETCH_SECONDS


def wait_for_records(consumer: Any, fetch_wait_ms: int) -> None:
    """Pause before the next fetch when a broker reports no records without having waited for any.

    Apache Kafka waits (`fetch_max_wait_ms`). The embedded broker does not: each idle consumer would send
    3,000 fetches a second, which keeps a core busy. `python -m tests.bench idle`: under 1 % of a core with
    the patch.
    """
    send = consumer._client.send

    async def patient(node_id: int, request: Any, **options: Any) -> Any:
        began = asyncio.get_running_loop().time()
        response = await send(node_id, request, **options)
        if isinstance(request, FetchRequest) and not _has_records(response):
            waited = asyncio.get_running_loop().time() - began
            if waited * 1000 < fetch_wait_ms / 2:
                await asyncio.sleep(RETRY_SECONDS)
        return response

    consumer._client.send = patient


def _has_records(response: Any) -> bool:
    """True also for errors, which must not be delayed. A partition is (number, error code, high watermark,
    ..., records)."""
    return any(answer[1] or answer[-1] for _, partitions in response.topics for answer in partitions)
