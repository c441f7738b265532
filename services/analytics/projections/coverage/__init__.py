"""The projection of coverage and the women connected."""

from __future__ import annotations

from services.analytics.projections.coverage.fold import CoverageFold

__all__ = ["CoverageFold"]
