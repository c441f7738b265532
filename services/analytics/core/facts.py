"""Facts: the newest state of each subject, in whatever order and however often its events come. Pure.

An event *states* fields of its subject ("the unit is BR-SRN"). A fact keeps, for each field, the statement
with the highest sequence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

Statement: TypeAlias = Mapping[str, Any]
"""Field -> value, as one event states them."""

MOST_BEYOND: Final = 1000
"""Sequences kept after a gap: forged ones with a gap after each must not make a fact grow without end."""

SEAT: Final = "seat_"
"""Prefix of fields that say where a seat is; None once it was freed."""

LISTED: Final = "listed"
"""Stated by a snapshot, which lists all seats."""

_WORD: Final = re.compile(r"[a-z0-9_]{1,32}")


@dataclass(frozen=True, slots=True)
class Fact:
    """One subject. `at` holds the sequence of the event that stated each field of `values`.

    `upto` and `beyond` are the sequences known: all of 1..upto, and some later ones (types that are not read
    here, or a dead letter that is still to be replayed, leave gaps).
    """

    subject: str
    upto: int = 0
    beyond: tuple[int, ...] = ()
    at: Mapping[str, int] = field(default_factory=dict)
    values: Statement = field(default_factory=dict)

    @property
    def unheard(self) -> bool:
        """Whether the subject's first event is unknown."""
        return self.upto == 0

    @property
    def newest(self) -> int:
        """The highest sequence known; 0 for none."""
        return max(self.upto, *self.beyond, 0)

    @property
    def forgotten(self) -> bool:
        """Whether the sequences of some fields were forgotten, until a snapshot states them again."""
        return 0 in self.at.values()

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def get(self, name: str) -> Any:
        return self.values.get(name)


def learn(fact: Fact, sequence: int, statement: Statement) -> Fact | None:
    """The fact after an event, or None when an event of that sequence is in it already."""
    if sequence <= fact.upto or sequence in fact.beyond:
        return None
    at, values = _stated(fact, sequence, statement)
    return _without_freed_seats(Fact(fact.subject, *_closed(fact.upto, {*fact.beyond, sequence}), at, values))


def learn_whole(fact: Fact, sequence: int, statement: Statement) -> Fact | None:
    """The fact after a snapshot, which states every field as of `sequence`; None when it adds nothing.

    When the subject's beginning is unknown, or its sequences were forgotten, the snapshot stands for all of
    1..sequence: what happened before it is lost, or comes so late that the snapshot contains it already.
    Otherwise a missing event is a dead letter that may still be replayed, and only the newest statements are
    taken over.
    """
    if sequence <= fact.upto and not fact.forgotten:
        return None
    at, values = _stated(fact, sequence, statement)
    if fact.unheard or fact.forgotten:
        known = _closed(sequence, {n for n in fact.beyond if n > sequence})
        return _without_freed_seats(Fact(fact.subject, *known, at, values))
    if at is fact.at:
        return None
    return _without_freed_seats(Fact(fact.subject, fact.upto, fact.beyond, at, values))


def forget(fact: Fact) -> Fact:
    """The fact with its sequences forgotten: whatever comes next is news, and a snapshot states every field.

    That the beginning was heard stays known, so that a snapshot does not count it again.
    """
    return Fact(fact.subject, min(fact.upto, 1), (), dict.fromkeys(fact.at, 0), fact.values)


def word(text: str) -> str:
    """An open word of an event as the name of a counter; `other` for text that cannot be one."""
    return text if _WORD.fullmatch(text) else "other"


def _stated(fact: Fact, sequence: int, statement: Statement) -> tuple[Mapping[str, int], Statement]:
    """`at` and `values` after `statement`, less the fields that a newer event has stated."""
    newest = {name: value for name, value in statement.items() if sequence > fact.at.get(name, 0)}
    if not newest:
        return fact.at, fact.values
    return {**fact.at, **dict.fromkeys(newest, sequence)}, {**fact.values, **newest}


def _without_freed_seats(fact: Fact) -> Fact:
    """The fact without seats that were freed at a sequence up to which all is known, or taken before a
    snapshot that does not list them: no older event can take them again, and a member may have had many."""
    listed = fact.at.get(LISTED, 0)
    freed = [
        name
        for name, value in fact.values.items()
        if name.startswith(SEAT)
        and (fact.at[name] < listed or (value is None and fact.at[name] <= fact.upto))
    ]
    if not freed:
        return fact
    at, values = dict(fact.at), dict(fact.values)
    for name in freed:
        del at[name], values[name]
    return Fact(fact.subject, fact.upto, fact.beyond, at, values)


def _closed(upto: int, later: set[int]) -> tuple[int, tuple[int, ...]]:
    """`upto` moved over those of `later` that follow it without a gap, and the rest. With too many of them,
    the first gaps count as lost."""
    while upto + 1 in later or len(later) > MOST_BEYOND:
        upto = min(later)
        later.remove(upto)
    return upto, tuple(sorted(later))
