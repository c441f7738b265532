"""What readers ask for, made from the counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta

from services.analytics.calendar import Step, buckets, day_of
from services.analytics.domain import EVERYWHERE, Fact, below, women_share
from services.analytics.schemas import (
    Coverage,
    CoverageSummary,
    Groups,
    Members,
    Metric,
    Notifications,
    Overview,
    Point,
    Timeseries,
)
from services.analytics.store import Store, Totals, depth
from services.shared.clock import Clock
from services.shared.contracts.vocabulary import LEVELS, Gender, UnitLevel
from services.shared.http.problem import FieldError, invalid, not_found

MOST_DAYS = 731
"""Longest time series: two years."""
USUAL_DAYS = 30
WOMEN = f"members.by_gender.{Gender.FEMALE}"


class Figures:
    """Raises the 404 problem for a unit that nothing is known of. One that was announced and is empty has zeros."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def overview(self, unit: str) -> Overview:
        await self._ensure_known(unit)
        # Every event counts towards the sum of everything, so its time says how recent the figures are,
        # also where nothing has happened for long.
        totals = await self._store.totals({unit, EVERYWHERE})
        return overview(unit, totals[unit], totals[EVERYWHERE])

    async def timeseries(
        self, unit: str, metric: Metric, first: date | None, last: date | None, step: Step
    ) -> Timeseries:
        """`last` defaults to today in India, `first` to the 30 days that end then.

        Raises: the 422 problem when `first` is after `last`, or there are more than `MOST_DAYS` days.
        """
        last = last or day_of(self._clock.now())
        first = first or last - timedelta(days=min(USUAL_DAYS, last.toordinal()) - 1)
        if first > last:
            raise invalid([FieldError("/from", "must not be after `to`", "query")])
        if (last - first).days >= MOST_DAYS:
            raise invalid([FieldError("/from", f"the range must be at most {MOST_DAYS} days", "query")])
        await self._ensure_known(unit)
        by_day = await self._store.flows(unit, metric, first, last)
        points = [Point(start=day, value=n) for day, n in buckets(by_day, first, last, step)]
        total = sum(by_day.values())
        return Timeseries(
            unit=unit, metric=metric, first=first, last=last, step=step, points=points, total=total
        )

    async def coverage(self, unit: str, level: UnitLevel, after: str, limit: int) -> list[Coverage]:
        """Units of `level` below `unit`, by code, from the first one after `after`.

        Raises: the 422 problem when `level` is not below the unit's own.
        """
        if LEVELS.index(level) <= depth(unit):
            raise invalid([FieldError("/level", "must be below the level of the unit", "query")])
        await self._ensure_known(unit)
        units = await self._store.units(unit, level, after, limit)
        totals = await self._store.totals(row["_id"] for row in units)
        return [coverage(row, totals[row["_id"]].values) for row in units]

    async def summary(self, unit: str, level: UnitLevel) -> CoverageSummary:
        every = await self._store.every(unit, level)
        return summary([(coverage(row, totals.values), totals.values) for row, totals in every])

    async def _ensure_known(self, unit: str) -> None:
        if not await self._store.knows(unit):
            raise not_found()


def overview(unit: str, totals: Totals, everywhere: Totals) -> Overview:
    values = totals.values
    return Overview(
        unit=unit,
        as_of=everywhere.at,
        members=Members(
            total=values["members.total"],
            by_gender=below(values, "members.by_gender"),
            by_language=below(values, "members.by_language"),
            by_platform=below(values, "members.by_platform"),
            women_share=women_share(values),
        ),
        groups=Groups(
            total=values["groups.total"], seats=values["groups.seats"], taken=values["groups.taken"]
        ),
        notifications=Notifications(by_state=below(values, "notifications.by_state")),
    )


def coverage(unit: Fact, values: Counter[str]) -> Coverage:
    share, target = women_share(values), unit["women_target"]
    return Coverage(
        unit=unit["_id"],
        has_live_group=values["own.live"] > 0,
        groups=values["groups.total"],
        live_groups=values["groups.live"],
        seats=values["groups.seats"],
        taken=values["groups.taken"],
        members=values["members.total"],
        women=values[WOMEN],
        women_share=share,
        women_target=target,
        on_target=None if share is None or target is None else share >= target,
    )


def summary(rows: Sequence[tuple[Coverage, Counter[str]]]) -> CoverageSummary:
    units = [row for row, _ in rows]
    values = sum((v for _, v in rows), Counter[str]())
    return CoverageSummary(
        units=len(units),
        with_live_group=sum(row.has_live_group for row in units),
        with_target=sum(row.women_target is not None for row in units),
        on_target=sum(row.on_target is True for row in units),
        groups=values["groups.total"],
        live_groups=values["groups.live"],
        seats=values["groups.seats"],
        taken=values["groups.taken"],
        members=values["members.total"],
        women=values[WOMEN],
        women_share=women_share(values),
    )
