"""Settings of the analytics service."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from services.shared.config.settings import Period, ServiceSettings

Overlap = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


class AnalyticsSettings(ServiceSettings):
    service: str = "analytics"
    gauges_seconds: Period = 10.0
    """How often the business gauges on /metrics are read from the counters."""
    projection_overlap_seconds: Overlap = 900.0
    """For how long a build that has gone live reads on behind the consumers, so that what a process of an
    older release consumes is folded too. It should be longer than a rolling restart takes."""
