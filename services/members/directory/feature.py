"""The directory of members."""

from __future__ import annotations

from services.members.core.core import Core
from services.members.directory.api import directory_router
from services.members.directory.service import Directory
from services.members.directory.store import DirectoryStore
from services.shared.runtime import Feature


def directory(core: Core) -> Feature:
    service = Directory(DirectoryStore(core.runtime.database), core.reader)
    return Feature(routers=[directory_router(service)])
