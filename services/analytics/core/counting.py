"""Counting: the differences that a batch of events makes, folded in memory before anything is written. Pure.

A state counter (members, seats, ...) is a function of the facts alone: a change of a fact adds the
difference. A flow (joined, sent, ... on a day) is a function of each event, counted when its sequence is new.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final, NamedTuple, TypeAlias

from services.analytics.core.calendar import day_of
from services.analytics.core.facts import Fact, Statement
from services.shared.contracts.base import Envelope, Event
from services.shared.contracts.vocabulary import Gender, lineage

EVERYWHERE: Final = "*"
"""The sum over all trees, kept as if it were a unit."""
OWN: Final = "own."
"""Prefix of counters that stay in the unit itself."""

Count: TypeAlias = tuple[str, str, int]
"""`(unit, key, n)`: n more of `key` in `unit` and all above it, unless the key begins with `OWN`."""
Flow: TypeAlias = tuple[str, datetime, Iterable[str]]
"""`(metric, when, units)`: one more of `metric` in each of `units`."""
Flows: TypeAlias = Callable[[Envelope[Any]], Iterator[Flow]]


def no_flows(_: Envelope[Any]) -> Iterator[Flow]:
    yield from ()


def flow(metric: str) -> Flows:
    """One more of `metric` at the event's unit, when it happened."""

    def flows(event: Envelope[Any]) -> Iterator[Flow]:
        yield metric, event.time, rollup(event.data.unit)

    return flows


class EventMapping(NamedTuple):
    """The meaning of one event type: the fields it states of its subject, and what it adds to its day.

    `whole`: the event states everything about its subject, whether or not the events before it are known.
    Its flows count only for a subject whose first event is unknown.
    """

    states: Callable[[Any], Statement]
    flows: Flows = no_flows
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Projection:
    """One kind of subject: the events it reads, what they state of it (`mappings`), and what its facts add to
    the counters (`counted`).

    `owns` are the first words of its counters and flows. A changed fold gets the next `version`, and
    the one before it stays in the catalogue as long as an upgrade may find it live.
    """

    name: str
    version: int
    owns: tuple[str, ...]
    counted: Callable[[Fact], Iterator[Count]]
    mappings: Mapping[type[Event], EventMapping]

    def has(self, key: str) -> bool:
        """Whether the counter or flow is its own."""
        return key.startswith(self.owns)


@dataclass(slots=True)
class Changes:
    """The differences of a batch: one bulk write adds them to the counters."""

    totals: Counter[tuple[str, str]] = field(default_factory=Counter)
    """`(unit, key)` -> n"""
    flows: Counter[tuple[str, date, str]] = field(default_factory=Counter)
    """`(unit, day, metric)` -> n"""
    newest: datetime | None = None
    """When the newest event in it happened."""

    def note(self, projection: Projection, old: Fact | None, new: Fact) -> None:
        if old is not None:
            self._add(projection.counted(old), -1)
        self._add(projection.counted(new), 1)

    def happened(self, event: Envelope[Any], flows: Iterable[Flow]) -> None:
        self.newest = max(self.newest or event.time, event.time)
        for metric, when, units in flows:
            for unit in units:
                self.flows[unit, day_of(when), metric] += 1

    def _add(self, counts: Iterable[Count], sign: int) -> None:
        for unit, key, n in counts:
            for above in [unit] if key.startswith(OWN) else rollup(unit):
                self.totals[above, key] += sign * n


def rollup(unit: str) -> list[str]:
    """Everything that a unit counts towards."""
    return [EVERYWHERE, *lineage(unit)]


def below(totals: Mapping[str, int], prefix: str) -> dict[str, int]:
    """`{"a.x": 1, "a.y": 0, "b": 2}` below `a` -> `{"x": 1}`: zeros, which counting down leaves, are left
    out."""
    return {
        key.removeprefix(f"{prefix}."): n
        for key, n in sorted(totals.items())
        if n and key.startswith(f"{prefix}.")
    }


def women_share(totals: Mapping[str, int]) -> float | None:
    """Women / members who disclosed a gender, 0 to 1; None while nobody has.

    The undisclosed are in neither part: counted as not-women they would make a unit that respects the choice
    look worse than one that presses for an answer.
    """
    by_gender = below(totals, "members.by_gender")
    by_gender.pop(Gender.UNDISCLOSED, None)
    disclosed = sum(by_gender.values())
    return round(by_gender.get(Gender.FEMALE, 0) / disclosed, 4) if disclosed else None
