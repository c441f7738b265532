"""Metrics in a registry of their own."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from services.notifications.core.metrics import NotificationMetrics


@pytest.fixture
def metrics() -> NotificationMetrics:
    return NotificationMetrics(CollectorRegistry())
