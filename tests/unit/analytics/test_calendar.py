"""Days of India and the steps of a time series."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.analytics.core.calendar import Interval, buckets, day_of

DAYS = st.dates(date(2024, 1, 1), date(2028, 12, 31))


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        (datetime(2026, 11, 3, 18, 29, 59, tzinfo=UTC), date(2026, 11, 3)),
        (datetime(2026, 11, 3, 18, 30, tzinfo=UTC), date(2026, 11, 4)),
    ],
)
def test_the_day_turns_at_midnight_in_india(moment: datetime, day: date) -> None:
    assert day_of(moment) == day


def test_weeks_begin_on_monday_and_do_not_reach_beyond_the_range() -> None:
    monday = date(2026, 11, 2)
    by_day = {monday: 1, monday + timedelta(days=2): 2, monday + timedelta(days=8): 4}
    got = buckets(by_day, monday + timedelta(days=1), monday + timedelta(days=7), Interval.WEEK)
    assert got == [(monday, 2), (monday + timedelta(days=7), 0)]


@given(st.dictionaries(DAYS, st.integers(0, 99)), DAYS, st.integers(0, 800), st.sampled_from(Interval))
def test_steps_have_no_gap_and_lose_nothing(
    by_day: dict[date, int], first: date, length: int, step: Interval
) -> None:
    last = first + timedelta(days=length)
    got = buckets(by_day, first, last, step)
    starts = [start for start, _ in got]
    width = timedelta(days=1 if step is Interval.DAY else 7)
    assert all(b - a == width for a, b in pairwise(starts))
    assert starts[0] <= first < starts[0] + width
    assert starts[-1] <= last < starts[-1] + width
    assert sum(n for _, n in got) == sum(n for day, n in by_day.items() if first <= day <= last)
