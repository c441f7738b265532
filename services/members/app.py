"""The members service: its features over its core."""

from __future__ import annotations

from typing import Final

from services.members.ages.feature import ages
from services.members.consents.feature import consents
from services.members.core.core import Core
from services.members.directory.feature import directory
from services.members.dossier.feature import dossier
from services.members.duplicates.feature import duplicates
from services.members.erasure.feature import erasure
from services.members.grievances.feature import grievances
from services.members.imports.feature import imports
from services.members.incidents.feature import incidents
from services.members.matching.feature import matching
from services.members.merges.feature import merges
from services.members.profile.feature import profile
from services.members.reads.feature import reads
from services.members.recovery.feature import recovery
from services.members.redrawing.feature import redrawing
from services.members.registration.feature import registration
from services.members.roles.feature import roles
from services.members.settings import MembersSettings
from services.shared.clock import Clock
from services.shared.messaging import Broker
from services.shared.runtime import Runtime, Service, successions

DESCRIPTION: Final = (
    "Who is a member: registration, consent, unit and contact, and the events that tell the others."
)


def build(settings: MembersSettings, *, clock: Clock | None = None, broker: Broker | None = None) -> Service:
    core = Core(Runtime(settings, clock=clock, broker=broker), settings)
    features = [
        core.feature(),
        successions(core.runtime.successions),
        registration(core),
        directory(core),
        profile(core),
        ages(core),
        consents(core),
        roles(core),
        imports(core),
        matching(core),
        merges(core),
        duplicates(core),
        redrawing(core),
        erasure(core, settings),
        reads(core),
        dossier(core),
        incidents(core),
        grievances(core),
        recovery(),
    ]
    return Service(core.runtime, features, description=DESCRIPTION)
