"""The registration of members."""

from __future__ import annotations

from services.members.core.core import Core
from services.members.registration.api import registration_router
from services.members.registration.service import Registrar
from services.members.registration.store import AnswerStore
from services.shared.runtime import Feature


def registration(core: Core) -> Feature:
    registrar = Registrar(core, AnswerStore(core.runtime.database))
    return Feature(routers=[registration_router(registrar)], on_stop=[registrar.close])
