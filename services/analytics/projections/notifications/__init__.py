"""The projection of notifications."""

from __future__ import annotations

from services.analytics.projections.notifications.fold import NOTIFICATIONS

__all__ = ["NOTIFICATIONS"]
