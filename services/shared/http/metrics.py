"""HTTP metrics. Labels are the method, the route's template and the class of the status, never a path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import Scope

from services.shared.http.auth import Authenticator
from services.shared.http.revocations import RevocationList
from services.shared.observability.metrics import exemplar

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
UNMATCHED = "unmatched"
REFUSALS = (
    "malformed",
    "head_too_large",
    "head_too_slow",
    "body_too_slow",
    "unread",
    "connections",
    "caller_requests",
    "caller_bodies",
)
"""Why a connection is cut (`guard`), or a request refused because of its caller's others (`callers`)."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class HttpMetrics:
    """The HTTP metrics of a process; create them once per process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "sangathan_http_requests",
            "Requests answered, by method, route template and status class (2xx, 3xx, 4xx, 5xx).",
            ["method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "sangathan_http_request_seconds",
            "Duration from the request's headers to the end of the answer.",
            ["method", "route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._in_flight = Gauge(
            "sangathan_http_requests_in_flight", "Requests in progress.", registry=registry
        )
        self._shed = Counter(
            "sangathan_http_requests_shed", "Requests refused with 429 to shed load.", registry=registry
        )
        self._refused = Counter(
            "sangathan_http_refused",
            "Connections cut and requests refused to protect other callers, by reason.",
            ["reason"],
            registry=registry,
        )
        for reason in REFUSALS:
            self._refused.labels(reason)
        self._series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def watch_in_flight(self, read: Callable[[], float]) -> None:
        """Read the number at each scrape, so that requests do not pay for it."""
        self._in_flight.set_function(read)

    def shed(self) -> None:
        self._shed.inc()

    def refused(self, reason: str) -> None:
        """Count a refusal for one of `REFUSALS`."""
        self._refused.labels(reason).inc()

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        key = (scope["method"], route_template(scope), status // 100)
        series = self._series.get(key)
        if series is None:
            series = self._new_series(*key)
        series[0].inc()
        series[1].observe(seconds, exemplar())

    def _new_series(self, method: str, route: str, status_class: int) -> tuple[Counter, Histogram]:
        label = method if method in _METHODS else "OTHER"
        series = (
            self._requests.labels(label, route, f"{status_class}xx"),
            self._seconds.labels(label, route),
        )
        if label == method:  # a caller can invent methods without limit, so others are not cached
            self._series[method, route, status_class] = series
        return series


class AuthMetrics:
    """The metrics of authentication: keys and revoked tokens. They show no subject and no token id."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.revoked = Counter(
            "sangathan_auth_tokens_revoked",
            "Calls refused because the token is revoked, by its subject or its id.",
            registry=registry,
        )

    def watch(self, authenticator: Authenticator, revoked: RevocationList | None) -> None:
        """Read the gauges at each scrape."""
        self._gauge(
            "sangathan_auth_keys_unreadable",
            "1 while the key set that verifies tokens cannot be read: keys added since are refused.",
            lambda: authenticator.keys_unreadable,
        )
        self._gauge(
            "sangathan_auth_keys_age_seconds",
            "Seconds since the key set that verifies tokens was last read; infinite before the first time.",
            authenticator.keys_age,
        )
        self._gauge(
            "sangathan_auth_revocations",
            "Subjects and token ids on the list of revoked tokens that is in force; 0 without a list.",
            lambda: len(revoked) if revoked else 0,
        )
        self._gauge(
            "sangathan_auth_revocations_unreadable",
            "1 while the list of revoked tokens cannot be read: what was added since is not revoked.",
            lambda: revoked is not None and revoked.unreadable,
        )

    def _gauge(self, name: str, documentation: str, read: Callable[[], float]) -> None:
        Gauge(name, documentation, registry=self._registry).set_function(read)


def route_template(scope: Scope) -> str:
    """The route's template, such as `/v1/members/{id}`; `unmatched` when no route matched."""
    included: Mapping[str, Any] | None = scope.get("fastapi")
    effective = included.get("effective_route_context") if included else None
    template = getattr(effective or scope.get("route"), "path_format", None)
    if isinstance(template, str):
        return template
    # Starlette's plain routes leave only their endpoint in the scope; ours (health, docs) have fixed paths.
    fixed = "endpoint" in scope and not scope.get("path_params")
    return str(scope["path"]) if fixed else UNMATCHED
