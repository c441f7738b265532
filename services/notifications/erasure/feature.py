"""Erasure of members."""

from __future__ import annotations

from services.notifications.core.core import Core
from services.notifications.erasure.handlers import ErasureHandlers
from services.notifications.erasure.store import MIGRATIONS, ErasureStore
from services.shared.contracts.members import MemberErasureRequested
from services.shared.runtime import Feature


def erasure(core: Core) -> Feature:
    handlers = ErasureHandlers(ErasureStore(core.runtime.database), core.runtime.dead_letters)
    return Feature(subscriptions={MemberErasureRequested: handlers.erase}, migrations=MIGRATIONS)
