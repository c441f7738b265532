"""The chat groups of the units."""

from __future__ import annotations

from services.groups.chat_groups.api import chat_groups_router
from services.groups.chat_groups.service import ChatGroupService
from services.groups.chat_groups.store import ChatGroupStore
from services.groups.chat_groups.upkeep import Upkeep
from services.groups.core.core import Core
from services.shared.runtime import Feature


def chat_groups(core: Core) -> Feature:
    store = ChatGroupStore(core.runtime.database)
    service, upkeep = ChatGroupService(core, store), Upkeep(core, store)
    core.set_link = service.set_link
    return Feature(routers=[chat_groups_router(service, upkeep)], jobs=upkeep.kinds)
