"""Fixtures for every test. Those that start something start it once a session, and only if a test asks for it."""

from __future__ import annotations

pytest_plugins = ["tests.fixtures.stack"]
