"""Fixtures for every test. Expensive ones start once a session, and only if a test requests them."""

from __future__ import annotations

import os

pytest_plugins = ["tests.fixtures.stack"]


def pytest_xdist_auto_num_workers() -> int:
    """One more than the cores, as long as memory suffices: each worker has a MongoDB and a broker."""
    return min(8, (os.cpu_count() or 1) + 1)
