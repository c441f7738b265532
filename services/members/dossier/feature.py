"""Dossiers of members."""

from __future__ import annotations

from services.members.core.core import Core
from services.members.dossier.api import dossier_router
from services.members.dossier.holders import Holders
from services.members.dossier.page import Page
from services.members.dossier.service import Dossiers
from services.members.dossier.store import DossierStore
from services.shared.runtime import Feature


def dossier(core: Core) -> Feature:
    holders = Holders(core.settings, core.runtime.registry)
    service = Dossiers(core, DossierStore(core.runtime.database), holders)
    return Feature(routers=[dossier_router(service, Page())], on_close=[holders.close])
