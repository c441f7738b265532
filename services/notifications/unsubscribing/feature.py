"""Stopping e-mails by the link that is in each of them."""

from __future__ import annotations

from services.notifications.core.core import Core
from services.notifications.unsubscribing.api import unsubscribe_router
from services.notifications.unsubscribing.service import Unsubscribing
from services.shared.runtime import Feature


def unsubscribing(core: Core) -> Feature:
    return Feature(routers=[unsubscribe_router(Unsubscribing(core))])
