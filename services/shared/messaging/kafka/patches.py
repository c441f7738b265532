"""Patches of aiokafka's private parts, written for aiokafka 0.14.

There is no setting for either. tests/integration/messaging/test_aiokafka_patches.py fails when a new version moves
the parts or no longer needs a patch: look here first when aiokafka is raised.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiokafka.protocol.fetch import FetchRequest

PREFETCH_SECONDS: Final = 1.0
"""How long fetched records may wait for us before other partitions are asked for more: longer than a batch takes."""
RETRY_SECONDS: Final = 0.02
"""From an empty answer that came before its time to the next fetch."""


def keep_prefetching(consumer: Any) -> None:
    """Let a backlog in one partition not wait for partitions in which nothing comes.

    While fetched records wait for us, aiokafka asks after 0.1 s for the other partitions alone, and then asks that
    broker nothing else until it answers, which it does after `fetch_max_wait_ms` when there is nothing. Paid for by
    `python -m tests.bench poison`: 0.70 of the clean rate without, 0.96 with it (half of that difference).
    """
    consumer._fetcher._prefetch_backoff = PREFETCH_SECONDS


def wait_for_records(consumer: Any, fetch_wait_ms: int) -> None:
    """Do not ask again at once when a broker answers that it has nothing, without having waited for records.

    Apache Kafka waits (`fetch_max_wait_ms`). The embedded broker does not: each idle consumer would ask it 3,000 times
    a second, which keeps a core busy. Paid for by `python -m tests.bench idle`: under 1 % of a core with it.
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
    """True for errors too, which must not wait. A partition is (number, error code, high watermark, ..., records)."""
    return any(answer[1] or answer[-1] for _, partitions in response.topics for answer in partitions)
