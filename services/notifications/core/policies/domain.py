"""The policies of sending, as data: quiet hours, silence windows, caps, budgets and rates. Pure.

The send policy (`core/send_policy.py`) is code, and the same for everybody; its figures are here, and an
organisation sets them by `PUT /v1/policies`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from services.shared.contracts.vocabulary import Channel, Purpose, in_subtree

INDIA: Final = "Asia/Kolkata"
SERVICE: Final = "service"
A_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Hours of each day, by local time, in which nothing of these purposes goes on these channels; of no
    channels means on none of them. `begins` after `ends` spans midnight."""

    name: str
    begins: time
    ends: time
    purposes: tuple[str, ...]
    channels: tuple[str, ...] = tuple(channel.value for channel in Channel)

    def until(self, at: datetime, zone: ZoneInfo) -> datetime | None:
        """When these hours end, if `at` is in them."""
        local = at.astimezone(zone)
        for day in (local.date() - A_DAY, local.date()):
            begins, ends = self._of_day(day, zone)
            if begins <= at < ends:
                return ends.astimezone(at.tzinfo)
        return None

    def _of_day(self, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
        last = day if self.begins < self.ends else day + A_DAY
        return datetime.combine(day, self.begins, zone), datetime.combine(last, self.ends, zone)


REGULATOR: Final = QuietHours(
    "promotional_sms", time(21), time(10), (Purpose.BROADCAST.value,), (Channel.SMS.value,)
)
"""Promotional SMS go from 10:00 to 21:00 Indian time; the registers of DLT refuse others since October 2025
(error 651). Whether a party's SMS is promotional is not settled, so broadcasts are taken for it."""
REGULATOR_ZONE: Final = ZoneInfo(INDIA)


@dataclass(frozen=True, slots=True)
class SilenceWindow:
    """The hours before the close of poll in which no election matter may be sent to the polling area
    (Representation of the People Act 1951, section 126: 48 hours): one phase, or one repoll.

    `units` are the polling area: all below them is silent, and so is whoever stands above a part of it.
    """

    id: str
    units: tuple[str, ...]
    closes_at: datetime
    hours: float = 48.0

    def silences(self, unit: str, at: datetime) -> bool:
        begins = self.closes_at - timedelta(hours=self.hours)
        return begins <= at < self.closes_at and any(
            in_subtree(unit, area) or in_subtree(area, unit) for area in self.units
        )


@dataclass(frozen=True, slots=True)
class FrequencyCap:
    """At most `messages` of these purposes together reach one person in any `days` days."""

    purposes: tuple[str, ...]
    messages: int
    days: float

    def until(self, sent: Iterable[tuple[str, datetime]], at: datetime) -> datetime | None:
        """When one more may go, given what was sent: purposes and times in any order. None for now."""
        begins = at - timedelta(days=self.days)
        recent = sorted(when for purpose, when in sent if purpose in self.purposes and begins < when <= at)
        if len(recent) < self.messages:
            return None
        return recent[-self.messages] + timedelta(days=self.days)


@dataclass(frozen=True, slots=True)
class Budget:
    """The people whom one account may reach on a channel in any 24 hours."""

    channel: str
    recipients: int


SHARES: Final = {
    SERVICE: 1.0,
    Purpose.WELCOME.value: 0.95,
    Purpose.REMINDER.value: 0.9,
    Purpose.BROADCAST.value: 0.8,
}
"""The share of a budget that a purpose may use up: what matters more still goes when a broadcast has taken
all that it may."""
LEAST_SHARE: Final = 0.8


def account_of(channel: str, account: str) -> str:
    """The key of a budget: a provider's account on one channel, or the one sender of all."""
    return f"{channel}:{account}"


def share_of(purpose: str) -> float:
    return SHARES.get(purpose, LEAST_SHARE)


@dataclass(frozen=True, slots=True)
class Rate:
    """Messages per second from one number of this channel, by all processes together."""

    channel: str
    per_second: float


@dataclass(frozen=True, slots=True)
class Policies:
    """`version` counts the changes; 0 is as shipped. `zone` is the one of quiet hours (an IANA name).

    `election_matter` are the purposes that count as election matter: they are silent before a poll and, if
    `certificates` is true, need the certificate of their content (Election Commission, pre-certification of
    bulk SMS and voice messages).
    """

    version: int = 0
    zone: str = INDIA
    quiet_hours: tuple[QuietHours, ...] = (
        QuietHours("night", time(21), time(8), (Purpose.BROADCAST.value, Purpose.REMINDER.value)),
    )
    silence_windows: tuple[SilenceWindow, ...] = ()
    election_matter: tuple[str, ...] = (Purpose.BROADCAST.value,)
    certificates: bool = True
    frequency_caps: tuple[FrequencyCap, ...] = (FrequencyCap((Purpose.BROADCAST.value,), 3, 7.0),)
    budgets: tuple[Budget, ...] = ()
    rates: tuple[Rate, ...] = ()

    def quiet(self, purpose: str, channel: str | None, at: datetime) -> Iterator[tuple[str, datetime]]:
        """The hours in which `at` lies for this purpose, by name, and when they end. Without a channel:
        those that hold on every channel."""
        zones = [*((hours, ZoneInfo(self.zone)) for hours in self.quiet_hours), (REGULATOR, REGULATOR_ZONE)]
        for hours, zone in zones:
            held = channel in hours.channels if channel else set(hours.channels) >= set(Channel)
            if held and purpose in hours.purposes and (end := hours.until(at, zone)) is not None:
                yield hours.name, end

    def silence(self, unit: str, at: datetime) -> SilenceWindow | None:
        return next((each for each in self.silence_windows if each.silences(unit, at)), None)

    def budget(self, channel: str) -> int | None:
        return next((each.recipients for each in self.budgets if each.channel == channel), None)

    def rate(self, channel: str) -> float | None:
        return next((each.per_second for each in self.rates if each.channel == channel), None)

    def caps(self, purpose: str) -> list[FrequencyCap]:
        return [cap for cap in self.frequency_caps if purpose in cap.purposes]


AS_SHIPPED: Final = Policies()
