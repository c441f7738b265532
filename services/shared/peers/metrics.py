"""The metrics of every service that calls others."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


def peer_errors(registry: CollectorRegistry) -> Counter:
    return Counter(
        "sangathan_peer_errors",
        "Calls to another service given up, by service.",
        ["peer"],
        registry=registry,
    )


def token_expiry(registry: CollectorRegistry) -> Gauge:
    return Gauge(
        "sangathan_service_token_expiry_timestamp_seconds",
        "When the token with which other services are called expires; NaN while it cannot be read.",
        registry=registry,
    )
