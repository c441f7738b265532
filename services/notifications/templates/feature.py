"""Templates: the routes by which operators keep the texts."""

from __future__ import annotations

from services.notifications.core.core import Core
from services.notifications.templates.api import templates_router
from services.notifications.templates.service import TemplateService
from services.shared.runtime import Feature


def templates(core: Core) -> Feature:
    return Feature(routers=[templates_router(TemplateService(core))])
