"""What analytics knows, and what it counts of that. Pure rules.

An event *states* fields of its subject ("the unit is BR-SRN"). A fact keeps, for each field, the statement with
the highest sequence, so the same events give the same fact in whatever order and however often they come.
What is counted now (members, seats, ...) is a function of the facts alone: a change of a fact adds the difference.
What happened on a day (joined, sent, ...) is a function of each event, counted when its sequence is new.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, TypeAlias

from services.analytics.calendar import day_of
from services.shared.contracts.base import Envelope
from services.shared.contracts.vocabulary import Gender, Purpose, lineage

EVERYWHERE = "*"
"""The sum over all trees, kept like a unit's."""

Fact: TypeAlias = dict[str, Any]
"""`{_id, upto, beyond, at: {field: sequence}, <field>: <value>, ...}` of one subject; see `learn`."""
Statement: TypeAlias = Mapping[str, Any]
"""Field -> value, as one event states them."""
Count: TypeAlias = tuple[str, str, int]
"""`(unit, key, n)`: n more of `key` in `unit` and all above it; keys under `OWN` stay in the unit itself."""
Flow: TypeAlias = tuple[str, datetime, Iterable[str]]
"""`(metric, when, units)`: one more of `metric` in each of `units`."""

OWN = "own."
NOTIFICATION_STATES = ("queued", "sent", "suppressed", "failed")
_WORD = re.compile(r"[a-z0-9_]{1,32}")


def learn(fact: Fact | None, subject: str, sequence: int, statement: Statement) -> Fact | None:
    """The fact after an event, or None when an event of that sequence is in it already.

    `upto` and `beyond` are the sequences known: all of 1..upto, and some later ones (types not read here, or a dead
    letter that is still to be replayed, leave gaps).
    """
    old = fact or {"_id": subject, "upto": 0, "beyond": [], "at": {}}
    if sequence <= old["upto"] or sequence in old["beyond"]:
        return None
    upto, beyond = _closed(old["upto"], {*old["beyond"], sequence})
    newest = {name: value for name, value in statement.items() if sequence > old["at"].get(name, 0)}
    at = old["at"] | dict.fromkeys(newest, sequence)
    return {**old, **newest, "upto": upto, "beyond": beyond, "at": at}


def learn_whole(fact: Fact | None, subject: str, sequence: int, statement: Statement) -> Fact | None:
    """The fact after a snapshot, which states every field as of `sequence`; None when it says nothing new.

    When the beginning was never heard, the snapshot stands for all of 1..sequence: what happened before it is lost, or
    so late that the snapshot has it already. Else what is missing is a dead letter that may still be replayed, and only
    the newest statements are taken over.
    """
    old = fact or {"_id": subject, "upto": 0, "beyond": [], "at": {}}
    if sequence <= old["upto"]:
        return None
    newest = {name: value for name, value in statement.items() if sequence > old["at"].get(name, 0)}
    at = old["at"] | dict.fromkeys(newest, sequence)
    if not unheard(fact):
        return {**old, **newest, "at": at} if newest else None
    upto, beyond = _closed(sequence, {n for n in old["beyond"] if n > sequence})
    return {**old, **newest, "upto": upto, "beyond": beyond, "at": at}


def unheard(fact: Fact | None) -> bool:
    """Whether the subject's first event is unknown."""
    return fact is None or fact["upto"] == 0


def _closed(upto: int, later: set[int]) -> tuple[int, list[int]]:
    """`upto` moved on over those of `later` that follow it without a gap, and the rest."""
    while upto + 1 in later:
        upto += 1
        later.remove(upto)
    return upto, sorted(later)


def rollup(unit: str) -> list[str]:
    """Everything a unit counts towards."""
    return [EVERYWHERE, *lineage(unit)]


def word(text: str) -> str:
    """An open word of an event as the name of a counter; what could not be one is `other`."""
    return text if _WORD.fullmatch(text) else "other"


def members_counted(fact: Fact) -> Iterator[Count]:
    """A member counts from `member.joined` to `member.left`, with the newest unit and attributes known.

    Other events of a member whose `member.joined` has not come (a dead letter) are kept and count when it does.
    """
    if not fact.get("joined") or fact.get("left"):
        return
    unit = fact["unit"]
    yield unit, "members.total", 1
    yield unit, f"members.by_gender.{fact['gender']}", 1
    yield unit, f"members.by_language.{fact['language']}", 1
    for platform in fact["platforms"]:
        yield unit, f"members.by_platform.{platform}", 1


def placements_counted(fact: Fact) -> Iterator[Count]:
    """A seat taken in the group's unit. Who waits is not counted: one who leaves while waiting frees no seat, so no
    event of this subject says it."""
    if fact["state"] == "taken":
        yield fact["unit"], "groups.taken", 1


def groups_counted(fact: Fact) -> Iterator[Count]:
    """A group counts once its size is known; it is live while it has an invite link."""
    if "seats" not in fact:
        return
    yield fact["unit"], "groups.total", 1
    yield fact["unit"], "groups.seats", fact["seats"]
    if fact.get("live"):
        yield fact["unit"], "groups.live", 1
        yield fact["unit"], f"{OWN}live", 1


def notifications_counted(fact: Fact) -> Iterator[Count]:
    """By the state it is in: among all, and among the welcomes if it is one."""
    yield fact["unit"], f"notifications.by_state.{fact['state']}", 1
    if fact["purpose"] == Purpose.WELCOME:
        yield fact["unit"], f"welcomes.by_state.{fact['state']}", 1


def nothing_counted(_: Fact) -> Iterator[Count]:
    yield from ()


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of subject: where its facts are kept and what they add to the counters."""

    name: str
    counted: Callable[[Fact], Iterator[Count]]


MEMBERS = Kind("members", members_counted)
PLACEMENTS = Kind("placements", placements_counted)
GROUPS = Kind("groups", groups_counted)
NOTIFICATIONS = Kind("notifications", notifications_counted)
UNITS = Kind("units", nothing_counted)
KINDS = (MEMBERS, PLACEMENTS, GROUPS, NOTIFICATIONS, UNITS)


@dataclass(slots=True)
class Changes:
    """The differences of a batch, folded in memory: what one bulk write adds to the counters."""

    totals: Counter[tuple[str, str]] = field(default_factory=Counter)
    """`(unit, key)` -> n"""
    flows: Counter[tuple[str, date, str]] = field(default_factory=Counter)
    """`(unit, day, metric)` -> n"""
    newest: datetime | None = None
    """When the newest event in it happened."""

    def note(self, kind: Kind, old: Fact | None, new: Fact) -> None:
        if old is not None:
            self._add(kind.counted(old), -1)
        self._add(kind.counted(new), 1)

    def happened(self, event: Envelope[Any], flows: Iterable[Flow]) -> None:
        self.newest = max(self.newest or event.time, event.time)
        for metric, when, units in flows:
            for unit in units:
                self.flows[unit, day_of(when), metric] += 1

    def _add(self, counts: Iterable[Count], sign: int) -> None:
        for unit, key, n in counts:
            for above in [unit] if key.startswith(OWN) else rollup(unit):
                self.totals[above, key] += sign * n


def below(totals: Mapping[str, int], prefix: str) -> dict[str, int]:
    """`{"a.x": 1, "a.y": 0, "b": 2}` below `a` -> `{"x": 1}`: zeros, which counting down leaves, are left out."""
    return {
        key.removeprefix(f"{prefix}."): n
        for key, n in sorted(totals.items())
        if n and key.startswith(f"{prefix}.")
    }


def women_share(totals: Mapping[str, int]) -> float | None:
    """Women / members who disclosed a gender, 0 to 1; None while nobody has.

    The undisclosed are in neither part: counted as not-women they would make a unit that respects the choice look
    worse than one that presses for an answer.
    """
    by_gender = below(totals, "members.by_gender")
    by_gender.pop(Gender.UNDISCLOSED, None)
    disclosed = sum(by_gender.values())
    return round(by_gender.get(Gender.FEMALE, 0) / disclosed, 4) if disclosed else None
