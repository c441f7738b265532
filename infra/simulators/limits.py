"""Rates that a gateway enforces: token buckets, and windows that are counted anew."""

from __future__ import annotations

from collections import OrderedDict

_MAX_KEYS = 200_000


class Bucket:
    """At most `burst` at once, refilled by `per_second`; without `per_second` it never says no."""

    __slots__ = ("_burst", "_left", "_rate", "_seen")

    def __init__(self, per_second: float | None, burst: float) -> None:
        self._rate, self._burst = per_second, burst
        self._left, self._seen = burst, 0.0

    def take(self, now: float, count: int = 1) -> bool:
        """Whether `count` may pass at `now` (seconds)."""
        if self._rate is None:
            return True
        self._left = min(self._burst, self._left + max(0.0, now - self._seen) * self._rate)
        self._seen = now
        if self._left < count:
            return False
        self._left -= count
        return True


class Buckets:
    """A bucket for each key; the keys used least recently are forgotten beyond 200,000."""

    def __init__(self, per_second: float | None, burst: float) -> None:
        self._rate, self._burst = per_second, burst
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, key: str, now: float) -> bool:
        if self._rate is None:
            return True
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self._rate, self._burst)
            bucket.take(now, 0)
            if len(self._buckets) > _MAX_KEYS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket.take(now)


class Window:
    """At most `limit` in each window of `seconds`, counted anew when one is over; None never says no."""

    def __init__(self, limit: int | None, seconds: float = 60.0) -> None:
        self.limit, self._seconds = limit, seconds
        self._began, self._count = 0.0, 0

    def take(self, now: float) -> bool:
        if self.limit is None:
            return True
        if now - self._began >= self._seconds:
            self._began, self._count = now, 0
        if self._count >= self.limit:
            return False
        self._count += 1
        return True

    @property
    def left(self) -> int:
        return max(0, (self.limit or 0) - self._count)

    @property
    def resets_at(self) -> float:
        return self._began + self._seconds


class Unique:
    """At most `limit` different keys within the last `seconds`: a rolling window, as WhatsApp's messaging
    limit."""

    def __init__(self, limit: int | None, seconds: float) -> None:
        self.limit, self._seconds = limit, seconds
        self._keys: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str, now: float) -> bool:
        if self.limit is None:
            return True
        while self._keys and now - next(iter(self._keys.values())) >= self._seconds:
            self._keys.popitem(last=False)
        if key not in self._keys:  # a key counts from its first message; a second one costs nothing
            if len(self._keys) >= self.limit:
                return False
            self._keys[key] = now
        return True

    def __len__(self) -> int:
        return len(self._keys)
