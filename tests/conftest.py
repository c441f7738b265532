"""Fixtures for every test. Expensive ones start once a session, and only if a test requests them."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.fixtures.stack"]

# A busy machine is slow at any example; a test that guards a speed says so itself.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_xdist_auto_num_workers() -> int:
    """One more than the cores, as long as memory suffices: each worker has a MongoDB and a broker."""
    return min(8, (os.cpu_count() or 1) + 1)
