"""Placement: which seat a member gets, by pure rules.

A unit has one or more groups of a kind, numbered by ordinal from 1. A member takes a seat in the open group with
the lowest ordinal; when all are full, the next ordinal is created. A freed seat opens its group again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from services.shared.contracts.vocabulary import GroupKind


class GroupState(StrEnum):
    OPEN = "open"
    FULL = "full"


class PlacementState(StrEnum):
    """`assigned` is what placement decides; `invited`, `joined` and `removed` are what is observed later."""

    WAITING_UNIT = "waiting_unit"
    WAITING_SEAT = "waiting_seat"
    ASSIGNED = "assigned"
    INVITED = "invited"
    JOINED = "joined"
    LEFT = "left"
    REMOVED = "removed"


@dataclass(slots=True)
class Group:
    """`taken` and `capacity` are in seats. `version` counts the group's events."""

    id: str
    unit: str
    kind: str
    ordinal: int
    capacity: int
    taken: int = 0
    version: int = 1
    invite_ready: bool = False

    @property
    def state(self) -> GroupState:
        return GroupState.FULL if self.taken >= self.capacity else GroupState.OPEN


@dataclass(slots=True)
class Placement:
    """Where one member is. `member_sequence` is the last event of the member that was applied;
    `sequence` counts the placement's own events."""

    member_id: str
    member_sequence: int
    unit: str
    state: PlacementState
    sequence: int = 0
    group_id: str | None = None
    kind: str = GroupKind.GENERAL
    ordinal: int | None = None

    @property
    def seated(self) -> bool:
        return self.group_id is not None

    @property
    def told_to_wait(self) -> bool:
        """Whether the event that says so is out: a new placement has none."""
        return self.state is PlacementState.WAITING_UNIT and self.sequence > 0


@dataclass(frozen=True, slots=True)
class Change:
    """What a member's event asks for: to be placed in `unit`, or in none because the member left."""

    member_id: str
    sequence: int
    unit: str
    leaves: bool = False


@dataclass(slots=True)
class Seating:
    """The groups of the units concerned, as placement fills and empties them.

    `groups` must hold every group with a free seat of those units, and every group that a member may leave;
    `last_ordinals` the highest ordinal of each unit that has any.
    """

    groups: dict[str, Group]
    last_ordinals: dict[str, int]
    capacity: int
    new_id: Callable[[], str]
    kind: str = GroupKind.GENERAL
    created: list[Group] = field(default_factory=list)
    touched: dict[str, Group] = field(default_factory=dict)
    _open: dict[str, list[Group]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for group in self.groups.values():
            if group.state is GroupState.OPEN:
                self._open.setdefault(group.unit, []).append(group)
        for groups in self._open.values():
            groups.sort(key=lambda g: g.ordinal)

    def take(self, unit: str) -> Group:
        """Reserve a seat: lowest open ordinal, else a new group. The caller looks at `state` for "just filled"."""
        free = self._open.setdefault(unit, [])
        if not free:
            free.append(self._create(unit))
        group = free[0]
        group.taken += 1
        self.touched[group.id] = group
        if group.state is GroupState.FULL:
            free.pop(0)
        return group

    def release(self, group_id: str) -> Group:
        group = self.groups[group_id]
        was_full = group.state is GroupState.FULL
        group.taken = max(0, group.taken - 1)
        self.touched[group.id] = group
        if was_full:
            free = self._open.setdefault(group.unit, [])
            free.append(group)
            free.sort(key=lambda g: g.ordinal)
        return group

    def _create(self, unit: str) -> Group:
        ordinal = self.last_ordinals.get(unit, 0) + 1
        self.last_ordinals[unit] = ordinal
        group = Group(self.new_id(), unit, self.kind, ordinal, self.capacity)
        self.groups[group.id] = group
        self.created.append(group)
        return group


def fresh(changes: Sequence[Change], placements: Mapping[str, Placement]) -> list[Change]:
    """Those that are newer than what has been applied: a stale sequence never overwrites a newer one."""
    return [
        c
        for c in changes
        if (known := placements.get(c.member_id)) is None or c.sequence > known.member_sequence
    ]


def group_name(unit_name: Mapping[str, str], ordinal: int) -> dict[str, str]:
    """The name of a new group in both scripts; the first group of a unit needs no number."""
    if ordinal == 1:
        return {"en": f"{unit_name['en']} group", "hi": f"{unit_name['hi']} समूह"}
    return {"en": f"{unit_name['en']} group {ordinal}", "hi": f"{unit_name['hi']} समूह {ordinal}"}


def chunks(items: Iterable[str], size: int) -> list[list[str]]:
    """`items` in lists of at most `size`."""
    all_items = list(items)
    return [all_items[i : i + size] for i in range(0, len(all_items), size)]
