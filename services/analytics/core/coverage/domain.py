"""The rules of coverage: the figures of every day as a function of what is known. Pure.

A *record* is what is known of one member, group or unit: for each of its tracks, the points at which events
changed it, by sequence. It is a set, so it is the same in whatever order and however often events come. What
a record adds to the figures of each day follows from the record alone (`*_deltas`); an event changes them by
the difference of before and after. So an event that comes late corrects its own day and those after it.

A *delta* is `(unit, day, key) -> n`: from that day on, `n` more of `key` in `unit` itself.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate
from typing import Any, Final, Literal, TypeAlias

from services.shared.contracts.vocabulary import Gender

Record: TypeAlias = dict[str, Any]
"""`{"_id", "<track>": [[sequence, day, value, whole], ...]}`, as it is stored."""
Point: TypeAlias = list[Any]
Track: TypeAlias = Sequence[Point]
Value: TypeAlias = Mapping[str, Any]
Deltas: TypeAlias = Counter[tuple[str, str, str]]

MAX_POINTS: Final = 32
"""Points of a track; with more, the two oldest become one."""
MAX_CREDITS: Final = 400
"""Days on which somebody joined by a member's invitation that are kept of the member."""
ACTIVE_DAYS: Final = 30
"""A member is active for so long after bringing somebody in."""
MIN_ADMINS: Final = 2
"""People who should run a group."""
_SEATED: Final = ("seats", "group", "seat", "unit")
_SEEN: Final = ("seen", "group", "in")
"""Fields of a statement about a seat, and of one about who was seen in a group."""

MEMBERS, DISCLOSED, WOMEN = "members", "disclosed", "women"
STAGES: Final = ("registered", "assigned", "invited", "joined", "active")
"""The funnel of adult women. Who is assigned holds a seat; invited, was sent the way into it; joined, was
seen in it. Who is active brought somebody in lately, in a group or not."""
ASKED: Final = "asked"
"""Women who want the women's group: they agreed that others see their number."""
GROUPS, LIVE, RUN, SEATS, TAKEN = "groups", "live", "run", "seats", "taken"
"""`run` are live groups that at least `MIN_ADMINS` people run."""
UNITS, UNITS_LIVE, UNITS_RUN, UNITS_TARGET, UNITS_MET = (
    "units",
    "units_live",
    "units_run",
    "units_target",
    "units_met",
)
INVITERS: Final = {gender: f"invited_by_{gender}" for gender in (*Gender, "unknown")}
"""People who joined, by the gender of who invited them, in the inviter's unit."""


# -- tracks --------------------------------------------------------------------------------------------------


def put(
    track: Track,
    sequence: int,
    day: str,
    value: Value,
    *,
    whole: bool,
    merge: Callable[[Iterable[Value]], Value],
) -> list[Point] | None:
    """The track with one more point, or None when it adds nothing.

    `value` is what the event states; with `whole`, a snapshot, it states everything. A snapshot and the event
    of the same sequence are one point, with the event's day. `merge` is the state after some points.
    """
    at = bisect_left(track, sequence, key=lambda point: point[0])
    if at < len(track) and track[at][0] == sequence:
        there = track[at]
        kinds = {there[3], "whole" if whole else "event"}
        if len(kinds) == 1 or there[3] == "both":
            return None
        snapshot, event = (value, there[2]) if whole else (there[2], value)
        point = [sequence, there[1] if whole else day, {**snapshot, **event}, "both"]
        return [*track[:at], point, *track[at + 1 :]]
    if at == 0 and track and track[0][3] == "merged":
        return None  # older than what is kept
    points = [*track[:at], [sequence, day, dict(value), "whole" if whole else "event"], *track[at:]]
    if len(points) > MAX_POINTS:
        first, second = points[:2]
        merged = merge([first[2], second[2]])
        points[:2] = [[second[0], max(first[1], second[1]), {**merged, "since": first[1]}, "merged"]]
    return points


def newest(track: Track) -> int:
    """The highest sequence of the track; 0 for none."""
    return int(track[-1][0]) if track else 0


def renumbered(track: Track) -> list[Point]:
    """The track with its sequences forgotten: whatever comes next is newer."""
    return [[n - len(track), *point[1:]] for n, point in enumerate(track)]


def _days(track: Track) -> list[str]:
    """The day from which each point holds; one that is dated before an earlier one holds from then on."""
    days = [point[1] for point in track]
    if track and "since" in track[0][2]:
        days[0] = min(days[0], track[0][2]["since"])
    return list(accumulate(days, max))


# -- members -------------------------------------------------------------------------------------------------


def profile(values: Iterable[Value]) -> dict[str, Any]:
    """A member's attributes after these statements."""
    state: dict[str, Any] = {}
    for value in values:
        state |= value
    return state


def seating(values: Iterable[Value]) -> dict[str, Any]:
    """A member's seats after these statements: `{"seats": {group: unit}, "seen": {group: bool}}`."""
    seats: dict[str, str] = {}
    seen: dict[str, bool] = {}
    for value in values:
        if "seats" in value:
            seats = dict(value["seats"])
        seen |= value.get("seen", {})
        if (group := value.get("group")) is not None:
            if value.get("seat"):
                seats[group] = value["unit"]
            elif "seat" in value:
                seats.pop(group, None)
            if "in" in value:
                seen[group] = value["in"]
    return {
        "seats": seats,
        "seen": {group: there for group, there in seen.items() if there or group in seats},
    }


def member_deltas(record: Record) -> Deltas:
    """The deltas of a member. One who was erased adds nothing, on any day."""
    deltas: Deltas = Counter()
    if record.get("erased"):
        return deltas
    profiles, seatings = record.get("m", []), _seatings(record.get("p", []))
    profile_days, seating_days = _days(profiles), {day for day, _ in seatings}
    invited: str | None = record.get("invited")
    windows = _windows(record.get("credits", {}))
    edges = {*profile_days, *seating_days, *(edge for window in windows for edge in window)}
    edges |= {invited} if invited else set()
    state: dict[str, Any] = {}
    seats: dict[str, Any] = {"seats": {}, "seen": {}}
    minor_until = _minor_until(profiles)
    m = 0
    before: Counter[tuple[str, str]] = Counter()
    for day in sorted(edges):
        while m < len(profiles) and profile_days[m] <= day:
            state |= profiles[m][2]
            m += 1
        if day in seating_days:
            seats = seating(value for since, value in seatings if since <= day)
        now = Counter((unit, TAKEN) for unit in seats["seats"].values())
        acts = any(begin <= day < end for begin, end in windows)
        minor = m <= minor_until or state.get("adult") is False
        for key in _stands(state, seats, invited is not None and invited <= day, acts, minor=minor):
            now[state["unit"], key] += 1
        for (unit, key), n in _difference(before, now):
            deltas[unit, day, key] += n
        before = now
    final = profile(point[2] for point in profiles)
    if (home := final.get("unit")) is not None:
        key = INVITERS[final.get("gender") or "unknown"]
        for day, n in record.get("credits", {}).items():
            deltas[home, day, key] += n
    return deltas


def _minor_until(profiles: Track) -> int:
    """After how many points of the track the member may last be a minor. Nobody grows younger: whoever is
    told to be a minor was one on every day before, though nothing told it then."""
    return max((n for n, point in enumerate(profiles, 1) if point[2].get("adult") is False), default=0)


def _seatings(track: Track) -> list[tuple[str, Value]]:
    """The statements of the track, each with the day from which it holds: those about seats and those about
    who was seen move on by themselves, since a roster may be older than what was told before it."""
    parts: list[tuple[str, Value]] = []
    seated = seen = ""
    for _, day, value, how in track:
        # What a snapshot lists first has been there since before it, and so has what was merged.
        since = min(day, value.get("since", day))
        if "seats" in value or "seat" in value:
            seated = max(seated, day if seated else since)
            parts.append((seated, {name: value[name] for name in _SEATED if name in value}))
        if "seen" in value or "in" in value:
            seen = max(seen, since if how == "merged" else day)
            parts.append((seen, {name: value[name] for name in _SEEN if name in value}))
    return parts


def _stands(state: Value, seats: Value, invited: bool, acts: bool, *, minor: bool) -> list[str]:
    """The keys under which a member counts; the gender is what the member said, and nothing else."""
    if not state.get("in"):
        return []
    keys = [MEMBERS]
    gender = state.get("gender")
    if gender not in (None, Gender.UNDISCLOSED):
        keys.append(DISCLOSED)
    if gender != Gender.FEMALE:
        return keys
    keys.append(WOMEN)
    if minor:
        return keys
    held = seats["seats"]
    joined = any(seats["seen"].get(group) for group in held)
    reached = (True, bool(held), bool(held) and (invited or joined), joined, acts)
    keys += [stage for stage, there in zip(STAGES, reached, strict=True) if there]
    if state.get("asked"):
        keys.append(ASKED)
    return keys


def _windows(credits_: Mapping[str, int]) -> list[tuple[str, str]]:
    """The spans of days, the last not included, in which a member is active."""
    spans: list[tuple[str, str]] = []
    for day in sorted(credits_):
        end = (date.fromisoformat(day) + timedelta(days=ACTIVE_DAYS)).isoformat()
        if spans and day <= spans[-1][1]:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((day, end))
    return spans


# -- groups and units ----------------------------------------------------------------------------------------


def group_deltas(record: Record) -> Deltas:
    """The deltas of a group: it counts once its capacity is known, until it is
    archived."""
    deltas: Deltas = Counter()
    track = record.get("g", [])
    state: dict[str, Any] = {}
    before: Counter[tuple[str, str]] = Counter()
    for day, point in zip(_days(track), track, strict=True):
        state |= point[2]
        now: Counter[tuple[str, str]] = Counter()
        if state.get("capacity") is not None and not state.get("archived"):
            unit = state["unit"]
            now[unit, GROUPS], now[unit, SEATS] = 1, state["capacity"]
            if state.get("live"):
                now[unit, LIVE] = 1
                now[unit, RUN] = int((state.get("admins") or 0) >= MIN_ADMINS)
        for (unit, key), n in _difference(before, now):
            deltas[unit, day, key] += n
        before = now
    return deltas


def unit_deltas(record: Record) -> Deltas:
    """A unit counts from the day on which it was announced, until it is retired."""
    deltas: Deltas = Counter({(record["_id"], announced_on(record), UNITS): 1})
    if (end := retired_on(record)) is not None:
        deltas[record["_id"], end, UNITS] -= 1
    return deltas


def announced_on(record: Record) -> str:
    """The day on which a unit was announced."""
    return _days(record["u"])[0]


def retired_on(record: Record) -> str | None:
    """The day from which other units stand for this one; None while it is live."""
    track = record["u"]
    ends = (day for day, point in zip(_days(track), track, strict=True) if point[2].get("retired"))
    return next(ends, None)


def target_of(record: Record) -> float | None:
    """The newest target that was set for the unit itself."""
    target: float | None = profile(point[2] for point in record.get("u", [])).get("target")
    return target


def target_on(lineage: Sequence[Record], day: str) -> float | None:
    """The target of a unit on a day: its own, or that of the nearest unit above that has one. `lineage` are
    the records of the units above and of the unit, from the root."""
    for record in reversed(lineage):
        track = record.get("u", [])
        target = None
        for since, point in zip(_days(track), track, strict=True):
            if since <= day:
                target = point[2].get("target", target)
        if target is not None:
            return float(target)
    return None


def _difference(
    before: Counter[tuple[str, str]], now: Counter[tuple[str, str]]
) -> Iterable[tuple[tuple[str, str], int]]:
    for place in before.keys() | now.keys():
        if n := now[place] - before[place]:
            yield place, n


# -- what follows of a unit's figures ------------------------------------------------------------------------

Flag: TypeAlias = Literal["units_live", "units_run", "units_target", "units_met"]
FLAGS: Final[tuple[Flag, ...]] = ("units_live", "units_run", "units_target", "units_met")


def flags(values: Mapping[str, int], own: Mapping[str, int], target: float | None) -> tuple[Flag, ...]:
    """The flags that hold for a unit with these figures: it has a live group of its own, and one that enough
    people run; it has a target for women, and meets it. `values` include all below, `own` do not."""
    held = (
        own.get(LIVE, 0) > 0,
        own.get(RUN, 0) > 0,
        target is not None,
        target is not None and meets(values, target) is True,
    )
    return tuple(flag for flag, there in zip(FLAGS, held, strict=True) if there)


def meets(values: Mapping[str, int], target: float) -> bool | None:
    """Whether the women are at least the target's share of those who disclosed a gender; None while nobody
    has."""
    share = women_share(values)
    return None if share is None else share >= target


def women_share(values: Mapping[str, int]) -> float | None:
    disclosed = values.get(DISCLOSED, 0)
    return round(values.get(WOMEN, 0) / disclosed, 4) if disclosed else None


Reason: TypeAlias = Literal["follow_up", "invite", "seat", "open_group", "register", "first"]


@dataclass(frozen=True, slots=True)
class Effort:
    """The next effort for a unit, and how many women it would bring on."""

    reason: Reason
    gain: int


def next_effort(own: Mapping[str, int], target: float | None) -> Effort | None:
    """The effort that would bring on the most women of a unit's own; of equals, the one nearest to the end of
    the funnel. None where nothing is left to do.

    Women who were invited and did not come are followed up; who has a seat and no invitation is invited; who
    has no seat is given one, for which a unit without a group opens one; and a unit below its target
    registers as many as it lacks.
    """
    registered, assigned, invited, joined = (own.get(stage, 0) for stage in STAGES[:4])
    lacks = missing(own, target)
    waiting = registered - assigned
    efforts = [
        Effort("follow_up", invited - joined),
        Effort("invite", assigned - invited),
        Effort("seat" if own.get(LIVE, 0) else "open_group", waiting),
        Effort("register" if own.get(WOMEN, 0) else "first", lacks),
    ]
    best = max(efforts, key=lambda effort: effort.gain)  # the first of equals
    return best if best.gain > 0 else None


def missing(own: Mapping[str, int], target: float | None) -> int:
    """The women who, added to those there, would meet the target; 1 where nobody has disclosed a gender."""
    if not target:
        return 0
    women, disclosed = own.get(WOMEN, 0), own.get(DISCLOSED, 0)
    if not disclosed:
        return 1
    if meets(own, target):
        return 0
    if target >= 1:
        return disclosed - women  # never met while others are there: as many again is what can be asked

    def enough(n: int) -> bool:
        return meets({WOMEN: women + n, DISCLOSED: disclosed + n}, target) is True

    n = max(1, int((target * disclosed - women) / (1 - target)))
    while not enough(n):
        n += 1
    while n > 1 and enough(n - 1):  # a share is rounded
        n -= 1
    return n
