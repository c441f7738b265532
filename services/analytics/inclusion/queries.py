"""Queries: answers about the women connected, made from the figures of each day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Final, cast

from services.analytics.core.calendar import Interval, day_of, days, start_of
from services.analytics.core.counting import EVERYWHERE
from services.analytics.core.coverage.domain import (
    ASKED,
    INVITERS,
    MEMBERS,
    STAGES,
    WOMEN,
    Reason,
    meets,
    women_share,
)
from services.analytics.core.coverage.store import CoverageStore, Standing
from services.analytics.core.places import Place
from services.analytics.inclusion.schemas import (
    Funnel,
    FunnelPoint,
    FunnelSeries,
    Inclusion,
    InvitedBy,
    NextUnit,
    NextUnits,
    Words,
)
from services.analytics.inclusion.words import in_words
from services.shared.clock import Clock
from services.shared.contracts.vocabulary import Gender, Language
from services.shared.errors import FieldError, InvalidError, NotFoundError, UnavailableError
from services.shared.identity import Identity

MAX_DAYS: Final = 731
USUAL_DAYS: Final = 30
BUILDING_SECONDS: Final = 5


class InclusionQueries:
    """`unit` None asks for all that the caller may see.

    Every method raises `NotFoundError` for a unit that is outside the caller's subtree, or of which nothing
    is known, and `UnavailableError` until the figures were built for the first time.
    """

    def __init__(self, store: CoverageStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def inclusion(self, caller: Identity, unit: str | None, on: date | None) -> Inclusion:
        """Raises: `InvalidError` for a day that has not begun."""
        place, root = await self._asked(caller, unit)
        today = day_of(self._clock.now())
        on = on or today
        if on > today:
            raise InvalidError([FieldError("/on", "must not be after today", "query")])
        values = (await self._store.figures(place, [root], on.isoformat()))[root].total()
        target = (await self._store.targets(place, [root], on.isoformat()))[root]
        return Inclusion(
            unit=root,
            on=on,
            members=values[MEMBERS],
            women=values[WOMEN],
            women_share=women_share(values),
            women_target=target,
            on_target=None if target is None else meets(values, target),
            funnel=_funnel(values),
            invited_by=InvitedBy(**{gender.value: values[INVITERS[gender]] for gender in Gender}),
        )

    async def series(
        self, caller: Identity, unit: str | None, first: date | None, last: date | None, step: Interval
    ) -> FunnelSeries:
        """The funnel at the end of each step. `last` defaults to today in India, `first` to the 30 days that
        end then.

        Raises: `InvalidError` when `first` is after `last`, or there are more than `MAX_DAYS` days.
        """
        place, root = await self._asked(caller, unit)
        last = last or day_of(self._clock.now())
        first = first or last - timedelta(days=USUAL_DAYS - 1)
        if first > last:
            raise InvalidError([FieldError("/from", "must not be after `to`", "query")])
        if (last - first).days >= MAX_DAYS:
            raise InvalidError([FieldError("/from", f"the range must be at most {MAX_DAYS} days", "query")])
        before = (first - timedelta(days=1)).isoformat()
        values = (await self._store.figures(place, [root], before))[root].total()
        keys = (WOMEN, *STAGES, ASKED)
        changes = await self._store.history(place, root, keys, first.isoformat(), last.isoformat())
        ends: dict[date, dict[str, int]] = {}
        for at in days(first, last):
            values.update(changes.get(at.isoformat(), {}))
            ends[start_of(at, step)] = {key: values[key] for key in keys}
        points = [
            FunnelPoint(start=start, women=end[WOMEN], funnel=_funnel(end)) for start, end in ends.items()
        ]
        return FunnelSeries(unit=root, first=first, last=last, step=step, points=points)

    async def next(self, caller: Identity, unit: str | None, limit: int) -> NextUnits:
        """The units whose next effort brings on the most women, the most first."""
        place, root = await self._asked(caller, unit)
        found = await self._store.next(place, root, limit)
        return NextUnits(unit=root, items=[next_unit(standing) for standing in found])

    async def _asked(self, caller: Identity, unit: str | None) -> tuple[Place, str]:
        """Where the figures are, and the unit that the answer is about, checked."""
        root = caller.accessible_root(unit) or EVERYWHERE
        place = await self._store.place()
        if place is None:
            raise UnavailableError(
                "projection-building", "these figures are being built for the first time", BUILDING_SECONDS
            )
        if not await self._store.knows(place, root):
            raise NotFoundError
        return place, root


def next_unit(standing: Standing) -> NextUnit:
    reason = cast(Reason, standing.reason)
    n, target, own = standing.gain, standing.target, standing.figures
    words = {language.value: in_words(reason, n, target, language) for language in LANGUAGES}
    return NextUnit(
        unit=standing.unit,
        reason=reason,
        gain=n,
        words=Words(**words),
        women=own.get(WOMEN, 0),
        women_target=target,
        **{stage: own.get(stage, 0) for stage in STAGES[:4]},
    )


LANGUAGES: Final = (Language.ENGLISH, Language.HINDI)


def _funnel(values: Mapping[str, int]) -> Funnel:
    counts = Counter(values)
    return Funnel(asked=counts[ASKED], **{stage: counts[stage] for stage in STAGES})
