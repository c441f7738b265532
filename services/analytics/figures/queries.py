"""Queries: answers for readers, made from the counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta

from services.analytics.core.calendar import Interval, buckets, day_of
from services.analytics.core.counting import EVERYWHERE, below, women_share
from services.analytics.core.facts import Fact
from services.analytics.core.store import CounterStore, Totals, depth
from services.analytics.figures.schemas import (
    Coverage,
    CoverageSummary,
    Groups,
    Holdings,
    MemberHeld,
    Members,
    Metric,
    Notifications,
    Overview,
    PlacementHeld,
    Point,
    Timeseries,
)
from services.shared.clock import Clock
from services.shared.contracts.vocabulary import LEVELS, Gender, UnitLevel
from services.shared.errors import FieldError, InvalidError, NotFoundError
from services.shared.identity import Identity

MAX_DAYS = 731
"""Longest time series: two years."""
USUAL_DAYS = 30
WOMEN = f"members.by_gender.{Gender.FEMALE}"


class FigureQueries:
    """`unit` None asks for all that the caller may see. An announced unit without members has zeros.

    Every method raises `NotFoundError` for a unit that is outside the caller's subtree, or of which nothing
    is known.
    """

    def __init__(self, store: CounterStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def held(self, caller: Identity, member_id: str) -> Holdings:
        """The facts about a member. Those of notifications do not say whose they are.

        Raises: `NotFoundError` also for a member of whom nothing is known, unless the caller has all units.
        """
        member = await self._store.held("members", member_id)
        placement = await self._store.held("placements", member_id)
        units = {fact["unit"] for fact in (member, placement) if fact}
        if not units:
            caller.check_all_units()
        for unit in units:
            caller.check_access(unit)
        return Holdings(
            member_id=member_id,
            member=MemberHeld.model_validate(member) if member else None,
            placement=PlacementHeld.model_validate(placement) if placement else None,
        )

    async def overview(self, caller: Identity, unit: str | None) -> Overview:
        root = await self._root(caller, unit)
        # Every event counts towards the sum of everything, so its time says how recent the figures are,
        # also where nothing has happened for long.
        totals = await self._store.totals({root, EVERYWHERE})
        return overview(root, totals[root], totals[EVERYWHERE])

    async def timeseries(
        self,
        caller: Identity,
        unit: str | None,
        metric: Metric,
        first: date | None,
        last: date | None,
        step: Interval,
    ) -> Timeseries:
        """`last` defaults to today in India, `first` to the 30 days that end then.

        Raises: `InvalidError` when `first` is after `last`, or there are more than `MAX_DAYS` days.
        """
        root = await self._root(caller, unit)
        last = last or day_of(self._clock.now())
        first = first or last - timedelta(days=USUAL_DAYS - 1)
        if first > last:
            raise InvalidError([FieldError("/from", "must not be after `to`", "query")])
        if (last - first).days >= MAX_DAYS:
            raise InvalidError([FieldError("/from", f"the range must be at most {MAX_DAYS} days", "query")])
        by_day = await self._store.flows(root, metric, first, last)
        points = [Point(start=day, value=n) for day, n in buckets(by_day, first, last, step)]
        total = sum(by_day.values())
        return Timeseries(
            unit=root, metric=metric, first=first, last=last, step=step, points=points, total=total
        )

    async def coverage(
        self, caller: Identity, unit: str | None, level: str, after: str | None, limit: int
    ) -> list[Coverage]:
        """Units of `level` below `unit`, by code, from the first one after `after`.

        Raises: `InvalidError` when `level` is not below the unit's own.
        """
        root = caller.accessible_root(unit) or EVERYWHERE
        if (await self._depth_of(level)) <= depth(root):
            raise InvalidError([FieldError("/level", "must be below the level of the unit", "query")])
        await self._check_known(root)
        units = await self._store.units(root, level, after or "", limit)
        totals = await self._store.totals(fact.subject for fact in units)
        return [coverage(fact, totals[fact.subject].values) for fact in units]

    async def _depth_of(self, level: str) -> int:
        """The depth of its units; of a level without any, as trees are shipped.

        Raises: `InvalidError` for no known level.
        """
        found = await self._store.depth_of(level)
        if found is not None:
            return found
        if level not in LEVELS:
            raise InvalidError([FieldError("/level", "is the level of no unit", "query")])
        return LEVELS.index(UnitLevel(level))

    async def summary(self, caller: Identity, unit: str | None, level: str) -> CoverageSummary:
        every = await self._store.every(caller.accessible_root(unit) or EVERYWHERE, level)
        return summary([(coverage(fact, totals.values), totals.values) for fact, totals in every])

    async def _root(self, caller: Identity, unit: str | None) -> str:
        """The unit that an answer is about, checked."""
        root = caller.accessible_root(unit) or EVERYWHERE
        await self._check_known(root)
        return root

    async def _check_known(self, unit: str) -> None:
        if not await self._store.knows(unit):
            raise NotFoundError


def overview(unit: str, totals: Totals, everywhere: Totals) -> Overview:
    values = totals.values
    return Overview(
        unit=unit,
        as_of=everywhere.at,
        members=Members(
            total=values["members.total"],
            without_number=values["members.without_number"],
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
        unit=unit.subject,
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
