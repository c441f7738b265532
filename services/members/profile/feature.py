"""Changes of a member."""

from __future__ import annotations

from services.members.core.core import Core
from services.members.profile.api import profile_router
from services.members.profile.service import Profiles
from services.shared.runtime import Feature


def profile(core: Core) -> Feature:
    return Feature(routers=[profile_router(Profiles(core), core.reader)])
