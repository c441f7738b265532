"""Fairness: what one caller may have in progress while others are answered.

A caller is the subject of a token, whatever address it comes from: behind a load balancer or an office's
router many share one. A request counts from the moment its token is verified. Before that a request does
little: a body is read only after the token was.
"""

from __future__ import annotations

from typing import Final

from starlette.types import Scope

from services.shared.http.metrics import HttpMetrics
from services.shared.http.problem import Problem

MAX_UNFINISHED_BODIES: Final = 128
"""Bodies of a caller that may be on their way at once; each may hold a mebibyte."""

_CALLER: Final = "sangathan.caller"


class Callers:
    """The requests in progress by caller, and how many of them wait for their body."""

    def __init__(self, metrics: HttpMetrics, most: int) -> None:
        self._metrics = metrics
        self._most = most
        self._requests: dict[str, int] = {}
        self._bodies: dict[str, int] = {}

    def enter(self, scope: Scope, subject: str) -> None:
        """Count the request of `scope`. Raises: `Problem` 429 when its caller has too many."""
        already = self._requests.get(subject, 0)
        if already >= self._most:
            raise self._refused("caller_requests")
        self._requests[subject] = already + 1
        scope[_CALLER] = subject

    def leave(self, scope: Scope) -> None:
        """Count it no more, if it was counted."""
        if (subject := scope.get(_CALLER)) is not None:
            _less(self._requests, subject)

    def await_body(self, scope: Scope) -> None:
        """Count an unfinished body. Raises: `Problem` 429 when its caller has too many."""
        if (subject := scope.get(_CALLER)) is not None:
            already = self._bodies.get(subject, 0)
            if already >= MAX_UNFINISHED_BODIES:
                raise self._refused("caller_bodies")
            self._bodies[subject] = already + 1

    def body_came(self, scope: Scope) -> None:
        if (subject := scope.get(_CALLER)) is not None:
            _less(self._bodies, subject)

    def _refused(self, reason: str) -> Problem:
        self._metrics.refused(reason)
        detail = "you have too many requests in progress; others are still answered"
        return Problem(429, "too-many-requests", "Too many requests", detail, headers={"Retry-After": "1"})


def _less(counts: dict[str, int], subject: str) -> None:
    left = counts[subject] - 1
    if left:
        counts[subject] = left
    else:
        del counts[subject]
