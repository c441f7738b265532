"""The only source of time: services read a `Clock`, so that tests can move it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """The wall clock in UTC, in milliseconds: the precision of BSON dates."""

    def now(self) -> datetime: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        # Cheaper than truncating `datetime.now()`; each request reads the clock several times.
        return datetime.fromtimestamp(time.time_ns() // 1_000_000 / 1000, UTC)


class ManualClock:
    """A clock that moves only by `advance`, for code whose result depends on the instant (expiry, quiet
    hours, ordering)."""

    def __init__(self, start: datetime) -> None:
        self._now = to_milliseconds(start)

    def now(self) -> datetime:
        return self._now

    def advance(self, delta: timedelta) -> None:
        self._now += delta


def to_milliseconds(moment: datetime) -> datetime:
    """Truncate to milliseconds, the precision of BSON dates, so that a stored value equals the one
    written."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
