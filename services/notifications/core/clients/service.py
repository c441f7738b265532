"""HTTP client of another service: authenticated by the service token, with a few quick retries.

A call is tried three times within seconds; after that the caller has to wait. Nothing of an answer gets into
an error or a log, because it is personal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Final, TypeVar

import httpx2
import orjson
import stamina
import structlog
from joserfc import jws
from joserfc.errors import JoseError
from pydantic import BaseModel, ValidationError

from services.notifications.core.metrics import NotificationMetrics
from services.shared.errors import TransientError
from services.shared.observability import tracing

log = structlog.get_logger(__name__)

T = TypeVar("T", bound=BaseModel)

TRIES: Final = 3
CALL_SECONDS: Final = 5.0
ALL_TRIES_SECONDS: Final = 10.0
_RETRIED: Final = frozenset({408, 429, 500, 502, 503, 504})


class ServiceToken:
    """The bearer token in a file, read again whenever the file changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._token = ""

    def current(self) -> str:
        """Raises: `TransientError` while the file cannot be read."""
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_ino, status.st_size)
            if seen != self._seen:
                self._token = self._path.read_text(encoding="ascii").strip()
                self._seen = seen
        except (OSError, UnicodeError) as error:
            raise TransientError(f"service token: {type(error).__name__}") from None
        return self._token

    def expires_at(self) -> float:
        """Seconds since 1970 according to the token's own claim; NaN without a readable token."""
        try:
            claims = jws.extract_compact(self.current().encode()).payload
            return float(orjson.loads(claims)["exp"])
        except (TransientError, JoseError, ValueError, KeyError, TypeError):
            return math.nan


class _UnansweredError(Exception):
    """The other service is busy or failing; another try may succeed."""


class ServiceClient:
    """`name` is the other service's, for logs and metrics."""

    def __init__(self, name: str, url: str, token: ServiceToken, metrics: NotificationMetrics) -> None:
        self._name = name
        self._token = token
        self._metrics = metrics
        metrics.peer_errors.labels(name)  # 0 from the start: `increase` does not see a series begin
        self._client = httpx2.AsyncClient(base_url=url, timeout=CALL_SECONDS, trust_env=False)

    async def post(self, path: str, ids: Sequence[str], answer: type[T]) -> T:
        """Raises: `TransientError` when there is no answer, or not the one that was agreed on."""
        try:
            response = await self._try(path, ids)
            return answer.model_validate_json(response.content)
        except _UnansweredError as error:
            raise self._gave_up(str(error)) from None
        except httpx2.HTTPError as error:
            raise self._gave_up(type(error).__name__) from None
        except ValidationError:  # it quotes the answer
            raise self._gave_up("unexpected answer") from None

    async def close(self) -> None:
        await self._client.aclose()

    async def _try(self, path: str, ids: Sequence[str]) -> httpx2.Response:
        async for attempt in stamina.retry_context(
            on=(httpx2.HTTPError, _UnansweredError), attempts=TRIES, timeout=ALL_TRIES_SECONDS, wait_max=2.0
        ):
            with attempt, tracing.calling("POST", path, self._name) as span:
                headers = {"Authorization": f"Bearer {self._token.current()}"}
                if span:
                    headers["traceparent"] = span.traceparent
                response = await self._client.post(path, json={"ids": list(ids)}, headers=headers)
                if span:
                    span.set({"http.response.status_code": response.status_code})
                if response.status_code in _RETRIED:
                    raise _UnansweredError(f"status {response.status_code}")
        if (
            response.status_code != HTTPStatus.OK
        ):  # a token or a contract is wrong, and a person has to fix it
            raise self._gave_up(f"status {response.status_code}")
        return response

    def _gave_up(self, why: str) -> TransientError:
        self._metrics.peer_errors.labels(self._name).inc()
        log.warning("peer.failed", peer=self._name, why=why)
        return TransientError(f"{self._name}: {why}")
