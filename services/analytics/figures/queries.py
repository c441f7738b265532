"""Queries: answers for readers, made from the counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final

from services.analytics.core.calendar import Interval, buckets, day_of
from services.analytics.core.counting import EVERYWHERE, below, women_share
from services.analytics.core.coverage import domain
from services.analytics.core.coverage.store import CoverageStore, Figures
from services.analytics.core.facts import SEAT, Fact, Statement
from services.analytics.core.store import CounterStore, Totals, depth
from services.analytics.figures.schemas import (
    ConnectionHeld,
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
from services.shared.errors import FieldError, InvalidError, NotFoundError, UnavailableError
from services.shared.identity import Identity

MAX_DAYS = 731
"""Longest time series: two years."""
USUAL_DAYS = 30
_COUNTERS: Final = {
    domain.MEMBERS: "members.total",
    domain.WOMEN: f"members.by_gender.{Gender.FEMALE}",
    domain.GROUPS: "groups.total",
    domain.LIVE: "groups.live",
    domain.SEATS: "groups.seats",
    domain.TAKEN: "groups.taken",
}
"""The counters that stand for the figures of days until these are built for the first time."""


class FigureQueries:
    """`unit` None asks for all that the caller may see. An announced unit without members has zeros.

    Every method raises `NotFoundError` for a unit that is outside the caller's subtree, or of which nothing
    is known.
    """

    def __init__(self, store: CounterStore, by_day: CoverageStore, clock: Clock) -> None:
        self._store = store
        self._by_day = by_day
        self._clock = clock

    async def held(self, caller: Identity, member_id: str) -> Holdings:
        """The facts about a member. Those of notifications do not say whose they are.

        Raises: `NotFoundError` also for a member of whom nothing is known, unless the caller has all units.
        """
        member = await self._store.held("members", member_id)
        placement = await self._store.held("placements", member_id)
        record = (await self._by_day.live_records([member_id])).get(member_id)
        units = {fact["unit"] for fact in (member, placement) if fact and "unit" in fact}
        if not units:
            caller.check_all_units()
        for unit in units:
            caller.check_access(unit)
        return Holdings(
            member_id=member_id,
            member=MemberHeld.model_validate(member) if member else None,
            placement=_placement(placement) if placement else None,
            connection=_connection(record) if record and not record.get("erased") else None,
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
        self,
        caller: Identity,
        unit: str | None,
        level: str,
        on: date | None,
        after: str | None,
        limit: int,
    ) -> list[Coverage]:
        """Units of `level` below `unit` at the end of the day `on`, by code, from the first one after
        `after`.

        Raises: `InvalidError` when `level` is not below the unit's own, or the day has not begun;
        `UnavailableError` for a day while the figures of days are built for the first time.
        """
        root = caller.accessible_root(unit) or EVERYWHERE
        if (deep := await self._depth_of(level)) <= depth(root):
            raise InvalidError([FieldError("/level", "must be below the level of the unit", "query")])
        if on is not None and on > day_of(self._clock.now()):
            raise InvalidError([FieldError("/on", "must not be after today", "query")])
        await self._check_known(root)
        units = await self._store.units(root, level, after or "", limit)
        codes = [fact.subject for fact in units]
        if (place := await self._by_day.place()) is None:
            if on is not None:
                raise UnavailableError("projection-building", "these figures are being built", 5)
            totals = await self._store.totals(codes)
            return [coverage(fact, totals[fact.subject].values) for fact in units]
        day = (on or day_of(self._clock.now())).isoformat()
        figures = await self._by_day.figures(place, codes, day)
        targets = await self._by_day.targets(place, codes, day)
        return [covered(code, figures[code], targets[code], deep) for code in codes]

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

    async def summary(
        self, caller: Identity, unit: str | None, level: str, on: date | None
    ) -> CoverageSummary:
        root = caller.accessible_root(unit) or EVERYWHERE
        if (place := await self._by_day.place()) is None:
            every = await self._store.every(root, level)
            return summary([(coverage(fact, totals.values), totals.values) for fact, totals in every])
        day = (on or day_of(self._clock.now())).isoformat()
        return summed((await self._by_day.figures(place, [root], day))[root], await self._depth_of(level))

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


def coverage(unit: Fact, counters: Counter[str]) -> Coverage:
    """A unit as of now, by its counters."""
    values = named_by_day(counters)
    return _coverage(unit.subject, values, unit["women_target"], has_live_group=counters["own.live"] > 0)


def covered(unit: str, figures: Figures, target: float | None, level: int) -> Coverage:
    """A unit on one day."""
    values = figures.total()
    held = domain.flags(values, figures.at(level), target)
    live, run = "units_live" in held, "units_run" in held
    return _coverage(unit, values, target, has_live_group=live, has_admins=run)


def summary(rows: Sequence[tuple[Coverage, Counter[str]]]) -> CoverageSummary:
    """All units of a level as of now, by their counters."""
    units = [row for row, _ in rows]
    return CoverageSummary(
        units=len(units),
        with_live_group=sum(row.has_live_group for row in units),
        with_target=sum(row.women_target is not None for row in units),
        on_target=sum(row.on_target is True for row in units),
        **_in_figures(named_by_day(sum((counters for _, counters in rows), Counter[str]()))),
    )


def summed(figures: Figures, level: int) -> CoverageSummary:
    """All units of a level on one day."""
    units = figures.at(level)
    return CoverageSummary(
        units=units[domain.UNITS],
        with_live_group=units[domain.UNITS_LIVE],
        with_admins=units[domain.UNITS_RUN],
        with_target=units[domain.UNITS_TARGET],
        on_target=units[domain.UNITS_MET],
        **_in_figures(figures.total(level)),
    )


def named_by_day(counters: Counter[str]) -> Counter[str]:
    """The counters of units, as the figures of days are named."""
    by_gender = below(counters, "members.by_gender")
    named = Counter({name: counters[counter] for name, counter in _COUNTERS.items()})
    named[domain.DISCLOSED] = sum(by_gender.values()) - by_gender.get(Gender.UNDISCLOSED, 0)
    return named


def _coverage(
    unit: str,
    values: Mapping[str, int],
    target: float | None,
    *,
    has_live_group: bool,
    has_admins: bool = False,
) -> Coverage:
    return Coverage(
        unit=unit,
        has_live_group=has_live_group,
        has_admins=has_admins,
        women_target=target,
        on_target=None if target is None else domain.meets(values, target),
        **_in_figures(values),
    )


def _in_figures(values: Mapping[str, int]) -> dict[str, Any]:
    """The fields that a unit and a sum of units have."""
    counts = {name: values.get(name, 0) for name in _COUNTERS}
    return {
        "groups": counts[domain.GROUPS],
        "live_groups": counts[domain.LIVE],
        "seats": counts[domain.SEATS],
        "taken": counts[domain.TAKEN],
        "members": counts[domain.MEMBERS],
        "women": counts[domain.WOMEN],
        "women_share": domain.women_share(values),
    }


def _placement(values: Statement) -> PlacementHeld:
    """The seats held, as any version of the projection keeps them."""
    if "state" in values:
        held = PlacementHeld.model_validate(values)
        return held.model_copy(update={"groups": [held.group] if held.group else []})
    seats = {
        name.removeprefix(SEAT): unit
        for name, unit in sorted(values.items())
        if name.startswith(SEAT) and unit
    }
    group, unit = next(iter(seats.items()), (None, None))
    return PlacementHeld(unit=unit, state="taken" if seats else "none", group=group, groups=list(seats))


def _connection(record: domain.Record) -> ConnectionHeld:
    return ConnectionHeld(
        profile=[point[1] for point in record.get("m", [])],
        seats=[point[1] for point in record.get("p", [])],
        invited=record.get("invited"),
        credits=record.get("credits", {}),
    )
