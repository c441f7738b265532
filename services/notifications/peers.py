"""What this service asks other services: who a member is and how to reach them, what a group is called and its link.

A call is tried three times within seconds; after that it is the caller's to wait. Nothing of an answer gets into an
error or a log: it is personal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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

from services.notifications.metrics import NotificationMetrics
from services.shared.contracts.vocabulary import Channel
from services.shared.errors import TransientError
from services.shared.observability import tracing

log = structlog.get_logger(__name__)

T = TypeVar("T", bound=BaseModel)

TRIES: Final = 3
CALL_SECONDS: Final = 5.0
ALL_TRIES_SECONDS: Final = 10.0
_PASSING: Final = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Contact:
    """A member's name and addresses. None of it is in the repr, so that no log or traceback shows it."""

    name: str = field(repr=False)
    phone: str | None = field(repr=False)
    email: str | None = field(repr=False)
    active: bool = True

    def address(self, channel: str) -> str | None:
        return self.email if channel == Channel.EMAIL else self.phone

    @property
    def channels(self) -> frozenset[str]:
        return frozenset(channel.value for channel in Channel if self.address(channel))


@dataclass(frozen=True, slots=True)
class Group:
    """`names` by language. The link admits its holder, so it is not in the repr either."""

    names: Mapping[str, str]
    invite_link: str | None = field(repr=False)


class _Member(BaseModel):
    id: str
    name: str
    phone: str | None = None
    email: str | None = None
    status: str = "active"


class _Members(BaseModel):
    items: list[_Member]


class _Group(BaseModel):
    id: str
    name: dict[str, str]
    invite_link: str | None = None


class _Groups(BaseModel):
    items: list[_Group]


class ServiceToken:
    """The bearer token in a file, read again whenever the file is another one."""

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
        """Seconds since 1970, as the token itself says; NaN while there is none that says so."""
        try:
            claims = jws.extract_compact(self.current().encode()).payload
            return float(orjson.loads(claims)["exp"])
        except (TransientError, JoseError, ValueError, KeyError, TypeError):
            return math.nan


class _Unanswered(Exception):
    """The peer is busy or failing; another try may do."""


class Peer:
    """Another service's API. `name` is for logs and metrics."""

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
        except (httpx2.HTTPError, _Unanswered) as error:
            raise self._gave_up(
                str(error) if isinstance(error, _Unanswered) else type(error).__name__
            ) from None
        except ValidationError:  # it quotes the answer
            raise self._gave_up("unexpected answer") from None

    async def close(self) -> None:
        await self._client.aclose()

    async def _try(self, path: str, ids: Sequence[str]) -> httpx2.Response:
        async for attempt in stamina.retry_context(
            on=(httpx2.HTTPError, _Unanswered), attempts=TRIES, timeout=ALL_TRIES_SECONDS, wait_max=2.0
        ):
            with attempt, tracing.calling("POST", path, self._name) as span:
                headers = {"Authorization": f"Bearer {self._token.current()}"}
                if span:
                    headers["traceparent"] = span.traceparent
                response = await self._client.post(path, json={"ids": list(ids)}, headers=headers)
                if span:
                    span.set({"http.response.status_code": response.status_code})
                if response.status_code in _PASSING:
                    raise _Unanswered(f"status {response.status_code}")
        if response.status_code != HTTPStatus.OK:  # a token or a contract is wrong: people must mend it
            raise self._gave_up(f"status {response.status_code}")
        return response

    def _gave_up(self, why: str) -> TransientError:
        self._metrics.peer_errors.labels(self._name).inc()
        log.warning("peer.failed", peer=self._name, why=why)
        return TransientError(f"{self._name}: {why}")


class MembersApi:
    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def contacts(self, member_ids: Sequence[str]) -> dict[str, Contact]:
        """By member id; who is unknown is missing. At most 500 ids. Raises: `TransientError`."""
        found = await self._peer.post("/v1/members/resolve", member_ids, _Members)
        return {m.id: Contact(m.name, m.phone, m.email, m.status == "active") for m in found.items}


class GroupsApi:
    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def groups(self, group_ids: Sequence[str]) -> dict[str, Group]:
        """By group id; what is unknown is missing. At most 500 ids. Raises: `TransientError`."""
        found = await self._peer.post("/v1/groups/resolve", group_ids, _Groups)
        return {g.id: Group(g.name, g.invite_link) for g in found.items}
