"""Days and weeks of the time series. They are India's: a member who joins at 00:30 in Patna joined today.

India keeps UTC+05:30 all year and has one time zone (tz database, Asia/Kolkata: no change since 1945), so a
fixed offset is right and needs no time zone data in the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta, timezone
from enum import StrEnum

INDIA = timezone(timedelta(hours=5, minutes=30), "Asia/Kolkata")


class Interval(StrEnum):
    DAY = "day"
    WEEK = "week"


def day_of(moment: datetime) -> date:
    """The day in India of an aware time."""
    return moment.astimezone(INDIA).date()


def start_of(day: date, step: Interval) -> date:
    """The first day of the step that holds `day`; weeks begin on Monday (ISO 8601)."""
    return day if step is Interval.DAY else day - timedelta(days=day.weekday())


def buckets(by_day: Mapping[date, int], first: date, last: date, step: Interval) -> list[tuple[date, int]]:
    """One sum for each step from `first` to `last`, both included; a step without anything is 0.

    A bucket is named by the first day of its step, which for the first week may lie before `first`;
    only days within the range are summed.
    """
    sums = dict.fromkeys((start_of(day, step) for day in days(first, last)), 0)
    for day, count in by_day.items():
        if first <= day <= last:
            sums[start_of(day, step)] += count
    return list(sums.items())


def days(first: date, last: date) -> Iterator[date]:
    """Every day from `first` to `last`, both included."""
    for n in range((last - first).days + 1):
        yield first + timedelta(days=n)
