"""Settings of the analytics service."""

from __future__ import annotations

from services.shared.config.settings import Period, ServiceSettings


class AnalyticsSettings(ServiceSettings):
    service: str = "analytics"
    gauges_seconds: Period = 10.0
    """How often the business gauges on /metrics are read from the counters."""
