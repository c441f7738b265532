"""Every projection; adding one means adding a file and a line here."""

from __future__ import annotations

from typing import Final

from services.analytics.core.counting import Projection
from services.analytics.projections.groups import GROUPS
from services.analytics.projections.members import MEMBERS
from services.analytics.projections.notifications import NOTIFICATIONS
from services.analytics.projections.placements import PLACEMENTS
from services.analytics.projections.units import UNITS

PROJECTIONS: Final[tuple[Projection, ...]] = (MEMBERS, PLACEMENTS, GROUPS, NOTIFICATIONS, UNITS)
