"""The units that there are no more: a request that names one means the one that stands for it."""

from __future__ import annotations

from services.members.core.errors import unit_was_split
from services.shared.runtime import Successions


class LiveUnits:
    def __init__(self, successions: Successions) -> None:
        self._successions = successions

    def check(self, unit: str) -> str:
        """The unit that stands for this one; itself, if it is live or nothing is known of it.

        Raises: `InvalidError` after a split, and for a unit that was given up.
        """
        if (now := self._successions.standing_for(unit)) is None:
            raise unit_was_split(self._successions.successors(unit) or ())
        return now
