"""The projection of units."""

from __future__ import annotations

from services.analytics.projections.units.fold import UNITS

__all__ = ["UNITS"]
