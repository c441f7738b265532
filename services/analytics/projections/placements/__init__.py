"""The projection of placements."""

from __future__ import annotations

from services.analytics.projections.placements.fold import ONE_SEAT, PLACEMENTS

__all__ = ["ONE_SEAT", "PLACEMENTS"]
