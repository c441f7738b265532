"""Calls to a provider of messages, and what is certain after each: it did not take the message, it refused
it, it took it, or nobody knows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx2
import orjson
import structlog

from services.notifications.core.channel import Message
from services.notifications.core.domain import AGAIN, Meaning, OutcomeClass, SendOutcome

log = structlog.get_logger(__name__)

CONNECT_SECONDS: Final = 5.0
CALL_SECONDS: Final = 10.0
"""The time of a whole call. The dispatcher hands nothing over when less than this is left of a claim."""
MAX_ANSWER_BYTES: Final = 256 * 1024
MAX_RETRY_AFTER: Final = 24 * 3600.0
UNREACHABLE: Final = "unreachable"
NO_ANSWER: Final = "no_answer"
UNREADABLE: Final = "unreadable_answer"
UNSENDABLE: Final = "unsendable"
_NEVER_SENT: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
)
"""Faults before the first byte of a request. After any other, the provider may have read it."""


@dataclass(frozen=True, slots=True)
class ProviderError:
    """A line of a channel's table: what an error means, and our word for it."""

    meaning: Meaning
    word: str


@dataclass(frozen=True, slots=True)
class Answer:
    """`data` is the body if it is a JSON object or list, else None. `retry_after` is in seconds."""

    status: int
    data: dict[str, Any] | list[Any] | None
    retry_after: float | None = None


class NotTakenError(Exception):
    """The provider was not reached: it has not seen the request."""


class NoAnswerError(Exception):
    """The request was written, at least in part; nobody knows whether the provider took it."""


class ProviderClient:
    """An HTTP client of one account. `concurrency` bounds the calls at one time."""

    def __init__(
        self, url: str, *, concurrency: int, auth: tuple[str, str] | None = None, token: str | None = None
    ) -> None:
        self._turn = asyncio.Semaphore(concurrency)
        self._client = httpx2.AsyncClient(
            base_url=url,
            auth=auth,
            headers={"Authorization": f"Bearer {token}"} if token else None,
            timeout=httpx2.Timeout(CALL_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
            trust_env=False,
        )

    async def call(self, method: str, path: str, **content: Any) -> Answer:
        """Raises: `NotTakenError`; `NoAnswerError`. Neither quotes the request or the answer."""
        try:
            # The time is that of the whole call: the client's own limits are between two bytes.
            async with (
                self._turn,
                asyncio.timeout(CALL_SECONDS),
                self._client.stream(method, path, **content) as response,
            ):
                body = await _bounded(response)
                return Answer(response.status_code, _object(body), _retry_after(response))
        except _NEVER_SENT as error:
            raise NotTakenError(type(error).__name__) from None
        except (httpx2.HTTPError, httpx2.StreamError, TimeoutError, OSError) as error:
            raise NoAnswerError(type(error).__name__) from None

    async def close(self) -> None:
        await self._client.aclose()


def outcome_of(
    error: ProviderError, retry_after: float | None = None, *, code: int | str | None = None
) -> SendOutcome:
    """The outcome of a try that the provider has refused."""
    again = error.meaning in AGAIN
    kind = OutcomeClass.TRANSIENT if again else OutcomeClass.PERMANENT
    return SendOutcome(
        kind, error.word, error.meaning, None, retry_after, None if code is None else str(code)
    )


async def each(
    messages: Sequence[Message],
    prepare: Callable[[Message], Any],
    send: Callable[[Any], Awaitable[SendOutcome]],
) -> list[SendOutcome]:
    """Prepare and send each message by itself, all at once; one outcome for each, in order.

    A fault of ours in `prepare` fails that message alone, for nothing has been sent. After one in `send`, the
    outcome is unknown.
    """

    async def one(message: Message) -> SendOutcome:
        try:
            request = prepare(message)
        except Exception as error:
            log.error("gateway.unsendable", notification=message.id, error=type(error).__name__)
            return SendOutcome(OutcomeClass.PERMANENT, UNSENDABLE, Meaning.BUG)
        try:
            return await send(request)
        except NotTakenError:
            return SendOutcome(OutcomeClass.TRANSIENT, UNREACHABLE, Meaning.RETRY)
        except NoAnswerError:
            return SendOutcome(OutcomeClass.UNKNOWN, NO_ANSWER)
        except Exception as error:
            log.error("gateway.failed", notification=message.id, error=type(error).__name__)
            return SendOutcome(OutcomeClass.UNKNOWN, NO_ANSWER)

    return list(await asyncio.gather(*(one(message) for message in messages)))


async def _bounded(response: httpx2.Response) -> bytes:
    """Read no more of the body than is of use; what is longer is no answer of a provider."""
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            return b""
    return bytes(body)


def _object(body: bytes) -> dict[str, Any] | list[Any] | None:
    try:
        data = orjson.loads(body)
    except ValueError:
        return None
    return data if isinstance(data, dict | list) else None


def _retry_after(response: httpx2.Response) -> float | None:
    """Seconds (RFC 9110, 10.2.3); a date is not read."""
    text = response.headers.get("retry-after", "").strip()
    return min(float(text), MAX_RETRY_AFTER) if text.isdecimal() and len(text) < 10 else None
