"""Matching numbers to members."""

from __future__ import annotations

from services.members.core.core import Core
from services.members.matching.api import matching_router
from services.members.matching.service import Matching
from services.shared.runtime import Feature


def matching(core: Core) -> Feature:
    return Feature(routers=[matching_router(Matching(core))])
