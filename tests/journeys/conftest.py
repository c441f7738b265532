"""The four services as child processes on the embedded stack, once for all journeys."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from infra.local.stack import LocalStack

ANY_BROKER = frozenset(
    f"test_{name}.py"
    for name in (
        "alerts",
        "dashboards",
        "demo",
        "doctor",
        "generated_client",
        "metrics",
        "openapi",
        "operations",
        "readme",
        "rolling_restart",
        "tracing",
        "who_may_ask",
        "worst_requests",
    )
)
"""Journeys whose result does not depend on the broker, so one broker is enough: in CI Apache Kafka. `make
onkafka` leaves them out because it runs tests in parallel, and some of them measure time."""
HEAVY = frozenset({"test_who_may_ask.py", "test_late_address.py", "test_rosters.py"})
"""Too slow for `make test`: many quick tests, or a stack of their own."""
ALONE = frozenset({"test_worst_requests.py", "test_alerts.py"})
"""Journeys that measure time: nothing else may run beside them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("journey")
            if item.path.name in ANY_BROKER:
                item.add_marker("anybroker")
            if item.path.name in HEAVY:
                item.add_marker("heavy")
            if item.path.name in ALONE:
                item.add_marker("alone")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalStack]:
    async with LocalStack(tmp_path_factory.mktemp("stack")) as running:
        yield running
