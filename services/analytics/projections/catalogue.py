"""Every projection; adding one means adding a folder and a line here."""

from __future__ import annotations

from typing import Final

from services.analytics.core.core import Core
from services.analytics.core.counting import Projection
from services.analytics.projections.coverage import CoverageFold
from services.analytics.projections.folds import CountingFold, Fold
from services.analytics.projections.groups import GROUPS
from services.analytics.projections.members import MEMBERS
from services.analytics.projections.notifications import NOTIFICATIONS
from services.analytics.projections.placements import ONE_SEAT, PLACEMENTS
from services.analytics.projections.units import UNITS

PROJECTIONS: Final[tuple[Projection, ...]] = (MEMBERS, PLACEMENTS, GROUPS, NOTIFICATIONS, UNITS)
"""The projections that count, in the version of this release."""
VERSIONS: Final = {each.name: each.version for each in PROJECTIONS} | {CoverageFold.name: CoverageFold.latest}
"""The version of each projection in this release."""
EARLIER: Final[tuple[Projection, ...]] = (ONE_SEAT,)
"""Versions that an upgrade may find live; they follow until the present one is built."""


class Catalogue:
    """The folds of this release, by name and version."""

    def __init__(self, present: list[Fold], earlier: list[Fold]) -> None:
        self.present = {fold.name: fold for fold in present}
        self._all = {(fold.name, fold.version): fold for fold in (*present, *earlier)}

    def find(self, name: str, version: int) -> Fold | None:
        """None for a version that this release does not have."""
        return self._all.get((name, version))


def catalogue(core: Core) -> Catalogue:
    present: list[Fold] = [CountingFold(each, core.store) for each in PROJECTIONS]
    present.append(CoverageFold(core.coverage))
    earlier: list[Fold] = [CountingFold(each, core.store) for each in EARLIER]
    earlier.append(CoverageFold(core.coverage, version=1))
    return Catalogue(present, earlier)
