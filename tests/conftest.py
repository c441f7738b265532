"""Fixtures for every test. Those that start something start it once a session, and only if a test asks for it."""

from __future__ import annotations

import os

pytest_plugins = ["tests.fixtures.stack"]


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, as long as memory is no matter: each has a MongoDB and a broker."""
    return min(8, (os.cpu_count() or 1) + 1)
