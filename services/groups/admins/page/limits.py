"""Limits of the page apart from those of the API: each link has its own, and all that are none share one."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

BURST: Final = 30
PER_SECOND: Final = 0.5
UNKNOWN_BURST: Final = 60
UNKNOWN_PER_SECOND: Final = 2.0
MAX_LINKS: Final = 10_000


class PageLimits:
    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._links: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._unknown = (float(UNKNOWN_BURST), now())

    def admits(self, page_id: str) -> bool:
        """Whether another request of this link is answered now."""
        level = self._links.pop(page_id, (float(BURST), self._now()))
        left, at = self._level(level, BURST, PER_SECOND)
        self._links[page_id] = (left - 1 if left >= 1 else left, at)
        if len(self._links) > MAX_LINKS:
            self._links.popitem(last=False)
        return left >= 1

    def admits_unknown(self) -> bool:
        """The same for a link that is none: whoever tries many of them is slowed down."""
        left, at = self._level(self._unknown, UNKNOWN_BURST, UNKNOWN_PER_SECOND)
        self._unknown = (left - 1 if left >= 1 else left, at)
        return left >= 1

    def _level(self, level: tuple[float, float], most: int, per_second: float) -> tuple[float, float]:
        now = self._now()
        return min(float(most), level[0] + (now - level[1]) * per_second), now
