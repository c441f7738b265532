"""HTTP client of another service that answers with single JSON objects: authenticated by the service token,
with a few retries.

Nothing of an answer gets into an error or a log, because it is personal.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

import httpx2
import orjson
import stamina
import structlog
from prometheus_client import Counter

from services.shared.errors import TransientError
from services.shared.observability import tracing
from services.shared.peers.token import ServiceToken

log = structlog.get_logger(__name__)

TRIES: Final = 3
CALL_SECONDS: Final = 5.0
ALL_TRIES_SECONDS: Final = 8.0
MAX_ANSWER_BYTES: Final = 8 * 1024 * 1024
_RETRIED: Final = frozenset({408, 429, 502, 503, 504})


class _UnansweredError(Exception):
    """The other service is busy or failing; another try may succeed."""


class Peer:
    """`name` is the other service's, for logs and metrics; `errors` counts the calls given up."""

    def __init__(self, name: str, url: str, token: ServiceToken, errors: Counter) -> None:
        self.name = name
        self._token = token
        self._errors = errors.labels(name)  # 0 from the start: `increase` does not see a series begin
        self._client = httpx2.AsyncClient(base_url=url, timeout=CALL_SECONDS, trust_env=False)

    async def get(self, path: str, template: str) -> dict[str, Any]:
        """The JSON object at `path`, of which `template` is the form without ids.

        Raises: `TransientError` when the service does not answer with one; also for 404, which may come from
        a release that does not know the route.
        """
        return await self._answer("GET", path, template, None)

    async def post(
        self, path: str, body: Mapping[str, Any] | None, template: str | None = None
    ) -> dict[str, Any]:
        """The JSON object that a request is answered with, which may be sent several times.

        Raises: as `get`.
        """
        return await self._answer("POST", path, template or path, body)

    async def close(self) -> None:
        await self._client.aclose()

    async def _answer(
        self, method: str, path: str, template: str, body: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        try:
            answer = orjson.loads(await self._try(method, path, template, body))
        except (TimeoutError, httpx2.HTTPError, _UnansweredError) as error:
            raise self._gave_up(type(error).__name__) from None
        except ValueError:  # it quotes the answer
            raise self._gave_up("malformed") from None
        if not isinstance(answer, dict):
            raise self._gave_up("malformed")
        return answer

    async def _try(self, method: str, path: str, template: str, body: Mapping[str, Any] | None) -> bytes:
        async for attempt in stamina.retry_context(
            on=_may_pass, attempts=TRIES, timeout=ALL_TRIES_SECONDS, wait_max=1.0
        ):
            with attempt:
                async with (
                    asyncio.timeout(CALL_SECONDS),
                    self._called(method, path, template, body) as response,
                ):
                    if response.status_code in _RETRIED:
                        raise _UnansweredError
                    if response.status_code != HTTPStatus.OK:
                        raise self._gave_up(f"status {response.status_code}")
                    return await self._bounded(response)
        raise AssertionError  # the last attempt raises

    @asynccontextmanager
    async def _called(
        self, method: str, path: str, template: str, body: Mapping[str, Any] | None
    ) -> AsyncIterator[httpx2.Response]:
        with tracing.calling(method, template, self.name) as span:
            headers = {"Authorization": f"Bearer {self._token.current()}"}
            if span:
                headers["traceparent"] = span.traceparent
            async with self._client.stream(method, path, json=body, headers=headers) as response:
                if span:
                    span.set({"http.response.status_code": response.status_code})
                yield response

    async def _bounded(self, response: httpx2.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise self._gave_up("too large")
        return bytes(body)

    def _gave_up(self, why: str) -> TransientError:
        self._errors.inc()
        log.warning("peer.failed", peer=self.name, why=why)
        return TransientError(f"{self.name}: {why}")


def _may_pass(error: Exception) -> bool:
    """Whether another call within seconds may succeed: not after a call that took all its time."""
    return isinstance(error, httpx2.HTTPError | _UnansweredError) and not isinstance(
        error, httpx2.TimeoutException
    )
