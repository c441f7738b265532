"""The projection of groups."""

from __future__ import annotations

from services.analytics.projections.groups.fold import GROUPS

__all__ = ["GROUPS"]
