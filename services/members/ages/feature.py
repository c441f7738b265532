"""Ages of members, told by events."""

from __future__ import annotations

from services.members.ages.store import MIGRATIONS, AgeStore
from services.members.ages.telling import LOOP, AgeTeller
from services.members.core.core import Core
from services.shared.runtime import Feature


def ages(core: Core) -> Feature:
    teller = AgeTeller(core, AgeStore(core.runtime.database))
    return Feature(loops={LOOP: teller.run}, migrations=MIGRATIONS)
