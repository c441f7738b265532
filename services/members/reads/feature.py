"""The record of who was shown whose data."""

from __future__ import annotations

from services.members.core.core import Core
from services.members.reads.api import reads_router
from services.members.reads.service import Reads
from services.members.reads.store import MIGRATIONS, ReadStore
from services.shared.runtime import Feature


def reads(core: Core) -> Feature:
    service = Reads(ReadStore(core.runtime.database), core.reader)
    return Feature(routers=[reads_router(service)], migrations=MIGRATIONS)
