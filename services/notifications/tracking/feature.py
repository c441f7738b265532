"""Tracking: the routes by which callers read notifications."""

from __future__ import annotations

from services.notifications.core.core import Core
from services.notifications.tracking.api import tracking_router
from services.notifications.tracking.service import TrackingService
from services.notifications.tracking.store import TrackingStore
from services.shared.runtime import Feature


def tracking(core: Core) -> Feature:
    service = TrackingService(TrackingStore(core.runtime.database), core.vault)
    return Feature(routers=[tracking_router(service)])
