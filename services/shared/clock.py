"""The one source of time: services ask a `Clock`, so that tests can move it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Wall-clock time in UTC at millisecond precision, which is what MongoDB stores."""

    def now(self) -> datetime: ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        # Cheaper than cutting a datetime.now(), and asked for several times a request.
        return datetime.fromtimestamp(time.time_ns() // 1_000_000 / 1000, UTC)


class ManualClock:
    """A clock that moves only when told to.

    It is not a fake of `SystemClock` in the sense of pretending to pass time: it serves code
    whose outcome depends on *which* instant it is (expiry, quiet hours, ordering).
    """

    def __init__(self, start: datetime) -> None:
        self._now = to_milliseconds(start)

    def now(self) -> datetime:
        return self._now

    def advance(self, delta: timedelta) -> None:
        self._now += delta


def to_milliseconds(moment: datetime) -> datetime:
    """Truncate to the precision of BSON dates, so that what is written equals what is read."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
