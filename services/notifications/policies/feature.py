"""The policies of sending."""

from __future__ import annotations

from services.notifications.core.core import Core
from services.notifications.policies.api import policies_router
from services.notifications.policies.service import PoliciesService
from services.shared.runtime import Feature


def policies(core: Core) -> Feature:
    return Feature(routers=[policies_router(PoliciesService(core))])
