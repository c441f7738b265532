"""Fixtures for every test. Expensive ones start once a session, and only if a test requests them."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.fixtures.stack"]

# A busy machine is slow at any example; a test that guards a speed says so itself.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_xdist_auto_num_workers() -> int:
    """One more than the cores, as long as memory suffices: each worker has a MongoDB and a broker."""
    return min(8, (os.cpu_count() or 1) + 1)


LONGEST = ("tests/unit/messaging/test_machine.py", "tests/unit/messaging/test_mutants.py", "tests/journeys/")
"""Files that take minutes, from the slowest: they begin first, so that no worker is left with one alone."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def turn(item: pytest.Item) -> int:
        return next((n for n, path in enumerate(LONGEST) if item.nodeid.startswith(path)), len(LONGEST))

    items.sort(key=turn)
