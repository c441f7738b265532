"""A client of one service's operations API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx2

from services.shared.operations.cli.target import OpsError, Target

PAGE = 500
BATCH = 100
"""Letters per replay call, so that each call answers well within `SECONDS`."""
SECONDS = 60.0
FIRST_SECONDS = 5.0
"""Most that a service may take to say whether it lives and reaches its database.

Only then it is given `SECONDS` for each call.
"""

Query = Mapping[str, str]


class Client:
    """Every call raises `OpsError` unless it succeeds."""

    def __init__(self, target: Target, transport: httpx2.BaseTransport | None = None) -> None:
        self._target = target
        self._lives = False
        try:
            self._http = httpx2.Client(
                base_url=f"{target.url}/v1/ops",
                headers={"Authorization": f"Bearer {target.token}"},
                timeout=httpx2.Timeout(SECONDS, connect=FIRST_SECONDS),
                trust_env=False,
                transport=transport,
            )
        except httpx2.InvalidURL as error:
            raise OpsError(f"{target.url} is no address of {target.service}: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def letters(self, query: Query) -> Iterator[dict[str, Any]]:
        cursor: str | None = ""
        while cursor is not None:
            page = self._send("GET", "/dead-letters", {**query, "limit": str(PAGE), **_at(cursor)})
            yield from page["items"]
            cursor = page["next"]

    def summary(self, query: Query) -> dict[str, Any]:
        return self._send("GET", "/dead-letters/summary", query)

    def letter(self, id_: str) -> dict[str, Any]:
        return self._send("GET", _path(id_))

    def replay(self, id_: str) -> dict[str, Any]:
        return self._send("POST", f"{_path(id_)}/replay")

    def discard(self, id_: str, why: str) -> dict[str, Any]:
        return self._send("POST", f"{_path(id_)}/discard", body={"reason": why})

    def replay_all(self, query: Query) -> Iterator[dict[str, Any]]:
        """Replay in batches; yields the answer to each call, until no letters remain."""
        cursor: str | None = ""
        while cursor is not None:
            wanted = {**query, "limit": str(BATCH), **_at(cursor)}
            answer = self._send("POST", "/dead-letters/replay", wanted)
            yield answer
            cursor = answer["next"]

    def discard_all(self, query: Query, why: str, most: int) -> Iterator[dict[str, Any]]:
        """Discard in batches; yields the answer to each call, until no letters remain or `most` are
        discarded, which spares letters that died meanwhile."""
        discarded, more = 0, True
        while more and discarded < most:
            answer = self._send("POST", "/dead-letters/discard", query, body={"reason": why})
            yield answer
            discarded += answer["discarded"]
            more = bool(answer["remaining"] and answer["discarded"])

    def fuse(self) -> dict[str, Any]:
        return self._send("GET", "/fuse")

    def reset_fuse(self) -> dict[str, Any]:
        return self._send("POST", "/fuse/reset")

    def forget(self, subjects: Sequence[str], *, dry_run: bool) -> list[dict[str, Any]]:
        """Forget the sequences of the subjects; the answer has those known before."""
        body = {"subjects": list(subjects), "dry_run": dry_run}
        return list(self._send("POST", "/repairs", body=body)["items"])

    def snapshots(self, subjects: Sequence[str], *, dry_run: bool) -> list[dict[str, Any]]:
        """The snapshots of the subjects that this service publishes again."""
        body = {"subjects": list(subjects), "dry_run": dry_run}
        return list(self._send("POST", "/snapshots", body=body)["items"])

    def _send(
        self, method: str, path: str, query: Query | None = None, *, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        name = self._target.service
        try:
            self._check_lives()
            answer = self._http.request(method, path, params=query, json=body)
            document = answer.json()
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            raise OpsError(
                f"{name} at {self._target.url} does not answer: {error or type(error).__name__}; "
                "check the address and the process, and restart it if it hangs (runbook, ServiceDown)"
            ) from None
        except ValueError:
            raise OpsError(
                f"{name} at {self._target.url} answered {answer.status_code} without JSON"
            ) from None
        if not answer.is_success:
            raise OpsError(f"{name} refuses: {_reason(answer.status_code, document)}")
        return dict(document)

    def _check_lives(self) -> None:
        """A frozen process accepts connections and never answers, and one whose database is frozen answers
        late: find out before a long call."""
        if self._lives:
            return
        ready = self._http.get(f"{self._target.url}/readyz", timeout=FIRST_SECONDS)
        if ready.status_code == HTTPStatus.SERVICE_UNAVAILABLE and (why := _database_fault(ready)):
            raise OpsError(
                f"{self._target.service} at {self._target.url} does not reach MongoDB: {why} "
                "(runbook, Losing the MongoDB primary)"
            )
        self._lives = True


def _path(id_: str) -> str:
    return f"/dead-letters/{quote(id_, safe='')}"


def _at(cursor: str) -> Query:
    return {"cursor": cursor} if cursor else {}


def _reason(status: int, problem: Any) -> str:
    """A problem document in one line."""
    if not isinstance(problem, dict):
        return str(status)
    errors = [f"{each['pointer']} {each['detail']}" for each in problem.get("errors", ())]
    said = "; ".join([str(problem.get("detail") or problem.get("title")), *errors])
    return f"{status} {said}"


def _database_fault(ready: httpx2.Response) -> str | None:
    """The reason why the service's database does not answer, if `/readyz` gives one."""
    try:
        reason = ready.json()["reasons"].get("mongodb")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return str(reason)[:100] if reason else None
