"""How many connections one address may have."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from services.shared.http.connections import ALWAYS_ADMITTED, ConnectionGuard, network_of
from services.shared.http.metrics import HttpMetrics


def test_an_address_always_has_a_few_connections() -> None:
    registry = CollectorRegistry()
    door = ConnectionGuard(HttpMetrics(registry), max_connections=100)
    assert all(door.opened(f"10.0.0.{n % 3}") for n in range(100))
    assert not door.opened("10.0.0.1")
    assert all(door.opened("10.0.0.9") for _ in range(ALWAYS_ADMITTED))
    for n in range(100):
        door.closed(f"10.0.0.{n % 3}")
    assert door.opened("10.0.0.2")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8:0:0:ffff::1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_the_addresses_of_a_caller(one: str, other: str, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same
