"""A clock that tests can move: windows of 24 hours and replays after three days need no waiting."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

INDIA: Final = timezone(timedelta(hours=5, minutes=30))
"""Indian standard time; Exotel writes its dates in it."""


class Clock:
    """The time of one simulator: the machine's, moved by `offset` seconds."""

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time() + self.offset

    def advance(self, seconds: float) -> None:
        """Move the clock; a negative number moves it back."""
        self.offset += seconds

    def in_india(self) -> datetime:
        return datetime.fromtimestamp(self.now(), UTC).astimezone(INDIA)
