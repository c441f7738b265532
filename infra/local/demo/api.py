"""The demo's HTTP client: calls the services with a token, like any other program."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any, Self

import httpx2

from infra.local.errors import LocalError

PAGE = 500
BUSY = frozenset({429, 503})
TRIES = 15
LONGEST_PAUSE = 5.0
"""About a minute in total: a killed service on a busy machine needs part of it to return."""


class Api:
    """`async with Api(urls, token) as api:` One client for all services; `urls` by service."""

    def __init__(self, urls: Mapping[str, str], token: str, connections: int) -> None:
        self._urls = urls
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {token}"},
            limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
            timeout=60,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def send(self, method: str, service: str, path: str, **options: Any) -> httpx2.Response:
        """The answer, whatever its status. Retries on busy services and broken connections, so a POST that is
        not safe to repeat needs an `Idempotency-Key`.

        :raises LocalError: no answer in `TRIES` tries
        """
        for attempt in range(TRIES):
            # A broken connection counts as a busy answer: both are retried.
            with suppress(httpx2.TransportError):
                answer = await self._client.request(method, self._urls[service] + path, **options)
                if answer.status_code not in BUSY:
                    return answer
            await asyncio.sleep(min(LONGEST_PAUSE, 0.1 * 2**attempt))
        raise LocalError(f"{service} does not answer {method} {path}")

    async def get(self, service: str, path: str, **query: str | int) -> Any:
        """The body of a 200. :raises LocalError: any other status"""
        answer = await self.send("GET", service, path, params=query)
        if answer.status_code != 200:
            raise LocalError(f"{service} answered {answer.status_code} to GET {path}: {answer.text[:300]}")
        return answer.json()

    async def pages(self, service: str, path: str, **query: str) -> AsyncIterator[Mapping[str, Any]]:
        """Every item of a listing."""
        cursor: str | None = None
        while True:
            more = {"cursor": cursor} if cursor else {}
            page = await self.get(service, path, limit=PAGE, **query, **more)
            for item in page["items"]:
                yield item
            cursor = page["next"]
            if cursor is None:
                return

    async def metrics(self, service: str) -> dict[str, float]:
        """The service's metrics, each summed over its labels."""
        answer = await self.send("GET", service, "/metrics")
        sums: dict[str, float] = {}
        for line in answer.text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                plain = name.partition("{")[0]
                sums[plain] = sums.get(plain, 0.0) + float(value)
        return sums
