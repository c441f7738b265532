"""Resending what has failed."""

from __future__ import annotations

from services.notifications.core.core import Core
from services.notifications.resending.api import resending_router
from services.notifications.resending.jobs import ResendJob
from services.notifications.resending.service import Resending
from services.notifications.resending.store import FailedStore
from services.shared.runtime import Feature


def resending(core: Core) -> Feature:
    store = FailedStore(core.runtime.database)
    service = Resending(core, store)
    return Feature(
        routers=[resending_router(service)],
        jobs=[ResendJob(service, store).kind],
    )
