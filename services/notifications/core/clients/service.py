"""HTTP client of another service: authenticated by the service token, with a few quick retries.

A call is tried three times within seconds; after that the caller has to wait. But an id that spoils the
answer about all others (refused, not answered in time, malformed, too large) is found by halving the call,
and fails alone. Nothing of an answer gets into an error or a log, because it is personal.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Generic, TypeVar

import httpx2
import orjson
import stamina
import structlog
from pydantic import BaseModel, ValidationError

from services.notifications.core.metrics import NotificationMetrics
from services.shared.errors import TransientError
from services.shared.ids import new_id
from services.shared.observability import tracing
from services.shared.peers import ServiceToken

log = structlog.get_logger(__name__)

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

TRIES: Final = 3
CALL_SECONDS: Final = 5.0
ALL_TRIES_SECONDS: Final = 10.0
PART_SECONDS: Final = 1.0
"""For how long a part of a call that was not answered in time is waited for."""
HALVING_SECONDS: Final = 12.0
"""For how long ids that spoil an answer are looked for. With one call more, this is well within half of a
claim."""
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""Four times what 500 members with the longest names and addresses take."""
_RETRIED: Final = frozenset({408, 429, 502, 503, 504})
_ABOUT_THE_IDS: Final = frozenset({400, 404, 409, 413, 414, 422, 500})
"""Also a bug of the service, which one of the ids may meet."""

REFUSED: Final = "peer_refused"
TIMEOUT: Final = "peer_timeout"
UNEXPECTED: Final = "peer_answer"
"""The answer is malformed or too large."""
NOT_ASKED: Final = "peer_not_asked"
"""There was no time left to ask again without the ids that spoil the answer."""


@dataclass(frozen=True, slots=True)
class Answers(Generic[T]):
    """Answers by id; an id that the service does not know is in neither.

    `failed` has the reasons (`REFUSED`, `TIMEOUT`, `UNEXPECTED`, `NOT_ASKED`) of ids that got no answer while
    the service answers about others.
    """

    found: Mapping[str, T]
    failed: Mapping[str, str]


class _UnansweredError(Exception):
    """The other service is busy or failing; another try may succeed."""


class _SpoiltError(Exception):
    """No usable answer, perhaps because of one of the ids asked for. `reason` is one of `Answers.failed`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ServiceClient:
    """`name` is the other service's, for logs and metrics."""

    def __init__(self, name: str, url: str, token: ServiceToken, metrics: NotificationMetrics) -> None:
        self._name = name
        self._token = token
        self._metrics = metrics
        metrics.peer_errors.labels(name)  # 0 from the start: `increase` does not see a series begin
        self._client = httpx2.AsyncClient(base_url=url, timeout=CALL_SECONDS, trust_env=False)

    async def resolve(self, path: str, ids: Sequence[str], item: type[M]) -> Answers[M]:
        """Ask about `ids` and read an `item` for each that is known.

        The call is halved breadth first: so those that can be answered are, whatever time is left for the
        others.

        Raises: `TransientError` when the service answers nobody, or not as was agreed on.
        """
        found: dict[str, M] = {}
        failed: dict[str, str] = {}
        parts = deque([list(ids)] if ids else [])
        deadline: float | None = None
        while parts and (deadline is None or time.monotonic() < deadline):
            part = parts.popleft()
            try:
                answered, spoilt = await self._ask(
                    path, part, item, PART_SECONDS if deadline else CALL_SECONDS
                )
            except _SpoiltError as error:
                if deadline is None:
                    await self._check_it_answers(path, item, error)
                    deadline = time.monotonic() + HALVING_SECONDS
                if len(part) == 1:
                    failed[part[0]] = error.reason
                else:
                    middle = len(part) // 2
                    parts += (part[:middle], part[middle:])
            else:
                found |= answered
                failed |= dict.fromkeys(spoilt, UNEXPECTED)
        failed |= dict.fromkeys((id_ for part in parts for id_ in part), NOT_ASKED)
        if UNEXPECTED in failed.values() and not found:  # of a release that we do not understand
            raise self._gave_up("unexpected answer")
        if failed:
            log.warning("peer.failed_for_some", peer=self._name, counts=dict(Counter(failed.values())))
        return Answers(found, failed)

    async def close(self) -> None:
        await self._client.aclose()

    async def _check_it_answers(self, path: str, item: type[BaseModel], error: _SpoiltError) -> None:
        """Ask about an id that nobody has: whoever answers that is well, and the ids in hand are not.

        Raises: `TransientError`.
        """
        try:
            await self._ask(path, [new_id()], item, PART_SECONDS)
        except _SpoiltError:
            raise self._gave_up(error.reason) from None

    async def _ask(
        self, path: str, ids: Sequence[str], item: type[M], seconds: float
    ) -> tuple[dict[str, M], set[str]]:
        """Items by id, and the ids of malformed ones; ids that were not asked for are ignored.

        Raises: `_SpoiltError`; `TransientError`.
        """
        try:
            body = await self._try(path, ids, seconds)
            rows = orjson.loads(body)["items"]
        except (TimeoutError, httpx2.TimeoutException):
            raise _SpoiltError(TIMEOUT) from None
        except _UnansweredError as error:
            raise self._gave_up(str(error)) from None
        except httpx2.HTTPError as error:
            raise self._gave_up(type(error).__name__) from None
        except (ValueError, KeyError, TypeError):  # they quote the answer
            raise _SpoiltError(UNEXPECTED) from None
        return _read(rows, set(ids), item)

    async def _try(self, path: str, ids: Sequence[str], seconds: float) -> bytes:
        async for attempt in stamina.retry_context(
            on=_may_pass, attempts=TRIES, timeout=ALL_TRIES_SECONDS, wait_max=2.0
        ):
            with attempt, tracing.calling("POST", path, self._name) as span:
                headers = {"Authorization": f"Bearer {self._token.current()}"}
                if span:
                    headers["traceparent"] = span.traceparent
                # Of the whole call: the client's own limits are between two bytes.
                async with (
                    asyncio.timeout(seconds),
                    self._client.stream("POST", path, json={"ids": list(ids)}, headers=headers) as response,
                ):
                    status = response.status_code
                    if span:
                        span.set({"http.response.status_code": status})
                    if status in _RETRIED:
                        raise _UnansweredError(f"status {status}")
                    if status in _ABOUT_THE_IDS:
                        raise _SpoiltError(REFUSED)
                    if status != HTTPStatus.OK:  # the token is wrong, and a person has to fix it
                        raise self._gave_up(f"status {status}")
                    return await _bounded_body(response)
        raise AssertionError  # the last attempt raises

    def _gave_up(self, why: str) -> TransientError:
        self._metrics.peer_errors.labels(self._name).inc()
        log.warning("peer.failed", peer=self._name, why=why)
        return TransientError(f"{self._name}: {why}")


def _may_pass(error: Exception) -> bool:
    """Whether another call within seconds may succeed: not after a call that took all its time."""
    return isinstance(error, httpx2.HTTPError | _UnansweredError) and not isinstance(
        error, httpx2.TimeoutException
    )


async def _bounded_body(response: httpx2.Response) -> bytes:
    """Raises: `_SpoiltError` when it is too large; what exceeds the limit is not read."""
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise _SpoiltError(UNEXPECTED)
    return bytes(body)


def _read(rows: Any, asked: set[str], item: type[M]) -> tuple[dict[str, M], set[str]]:
    """Raises: `_SpoiltError` when `rows` is not a list."""
    if not isinstance(rows, list):
        raise _SpoiltError(UNEXPECTED)
    found: dict[str, M] = {}
    malformed: set[str] = set()
    for row in rows:
        id_ = row.get("id") if isinstance(row, dict) else None
        if not isinstance(id_, str) or id_ not in asked or id_ in found:
            continue
        try:
            found[id_] = item.model_validate(row)
        except ValidationError:  # it quotes the answer
            malformed.add(id_)
    return found, malformed - found.keys()
