"""Merges of members."""

from __future__ import annotations

from services.members.core.core import Core
from services.members.core.term_store import TermStore
from services.members.merges.api import merge_router, undo_router
from services.members.merges.service import Merges
from services.members.merges.store import MIGRATIONS, MergeStore
from services.shared.runtime import Feature


def merges(core: Core) -> Feature:
    database = core.runtime.database
    service = Merges(core, MergeStore(database), TermStore(database))
    return Feature(routers=[merge_router(service), undo_router(service)], migrations=MIGRATIONS)
