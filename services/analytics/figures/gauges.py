"""The business gauges: the state of the organisation, for the sum of all, each state and each district.

Blocks and booths are left out: there are 80,000 of them, and a series of a booth would be about very few
people.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from services.analytics.core.counting import EVERYWHERE, women_share
from services.analytics.core.store import CounterStore, Totals
from services.shared.contracts.vocabulary import Gender, UnitLevel
from services.shared.loops import Pace, Turn, poll_loop

WELCOME_STATES: Final = ("queued", "sent", "suppressed", "failed")


class BusinessGauges:
    """Every instance exports the same values, for all read the same counters."""

    def __init__(self, registry: CollectorRegistry, store: CounterStore, *, seconds: float) -> None:
        self._store = store
        self._seconds = seconds
        self._members = Gauge(
            "sangathan_members",
            "Members who have not left, by gender.",
            ["unit", "gender"],
            registry=registry,
        )
        self._women_share = Gauge(
            "sangathan_women_share_ratio",
            "Women among the members who disclosed a gender; NaN while nobody has.",
            ["unit"],
            registry=registry,
        )
        self._groups = Gauge("sangathan_groups", "Groups.", ["unit"], registry=registry)
        self._seats = Gauge("sangathan_seats", "Seats of all groups.", ["unit"], registry=registry)
        self._taken = Gauge(
            "sangathan_seats_taken", "Seats reserved for members: placements.", ["unit"], registry=registry
        )
        self._welcomes = Gauge(
            "sangathan_welcomes", "Welcomes by the state they are in.", ["unit", "state"], registry=registry
        )

    async def run(self, stop: asyncio.Event) -> None:
        await poll_loop("gauges", self.refresh, stop, Pace.every(self._seconds))

    async def refresh(self) -> Turn:
        """Read the counters once."""
        # Announced units only: a caller may make up unit codes, and each would be a series for ever.
        units = await self._store.announced((UnitLevel.STATE, UnitLevel.DISTRICT))
        totals = await self._store.totals([EVERYWHERE, *units])
        for unit, sums in totals.items():
            self._show(unit, sums)
        return Turn.NOTHING

    def _show(self, unit: str, totals: Totals) -> None:
        values = totals.values
        for gender in Gender:
            self._members.labels(unit, gender).set(values[f"members.by_gender.{gender}"])
        share = women_share(values)
        self._women_share.labels(unit).set(math.nan if share is None else share)
        self._groups.labels(unit).set(values["groups.total"])
        self._seats.labels(unit).set(values["groups.seats"])
        self._taken.labels(unit).set(values["groups.taken"])
        for state in WELCOME_STATES:
            self._welcomes.labels(unit, state).set(values[f"welcomes.by_state.{state}"])
