"""The projection of members."""

from __future__ import annotations

from services.analytics.projections.members.fold import MEMBERS

__all__ = ["MEMBERS"]
