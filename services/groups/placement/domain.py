"""Placement: which seat each member gets, by pure rules.

A unit has one or more groups of a kind, numbered by ordinal from 1. A member takes a seat in the open group
with the lowest ordinal; when all are full, the next ordinal is created. A freed seat opens its group again.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter
from typing import NamedTuple, TypeVar

from services.groups.core.domain import (
    Group,
    GroupState,
    Placement,
    PlacementState,
    group_name,
    seat_state,
)
from services.shared.contracts.base import Numbered, Step
from services.shared.contracts.groups import (
    GroupCreated,
    GroupFilled,
    GroupMemberAssigned,
    GroupMemberRedrawn,
    GroupMemberRemoved,
    GroupMemberWaiting,
)
from services.shared.contracts.vocabulary import GroupKind


class Change(NamedTuple):
    """The request of a member's event: a place in `unit`, or in none because the member left. `redrawn`: the
    unit itself became another one, and whoever has a seat keeps it."""

    member_id: str
    sequence: int
    unit: str
    leaves: bool = False
    redrawn: bool = False


class GroupSeats(NamedTuple):
    """The seats of a group: all that placement reads of one that exists, and all that it changes in it."""

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
        return seat_state(self.taken, self.capacity)


class Seating(NamedTuple):
    """The answer to a list of changes: a step for each, and the groups that are new or have changed."""

    steps: Sequence[Step[Placement]]
    created: Sequence[Group]
    changed: Sequence[GroupSeats]


def is_newer(change: Change, placement: Placement | None) -> bool:
    """Whether the change may be applied: one that is not newer than the last would undo what that one did."""
    return placement is None or change.sequence > placement.member_sequence


def units_short_of_seats(changes: Iterable[Change], groups: Iterable[GroupSeats]) -> list[str]:
    """Units that may need a new group."""
    free: Counter[str] = Counter()
    for group in groups:
        free[group.unit] += max(0, group.capacity - group.taken)
    demand = Counter([change.unit for change in changes])
    return [unit for unit, members in demand.items() if members > free[unit]]


def seat_members(
    changes: Iterable[Change],
    placements: Mapping[str, Placement],
    groups: Iterable[GroupSeats],
    last_ordinals: Mapping[str, int],
    unit_names: Mapping[str, Mapping[str, str]],
    *,
    capacity: int,
    new_id: Callable[[], str],
    now: datetime,
) -> Seating:
    """Decide on the changes in their order; each is of a different member.

    `groups` must hold every open group of the units concerned, and every group that a member leaves;
    `last_ordinals` the highest ordinal of each unit in `units_short_of_seats` that has a group. A unit that
    is not in `unit_names` is unknown: its members wait.
    """
    seats = _Seats(groups, last_ordinals, capacity, new_id, now)
    steps = [
        _decide(change, placements.get(change.member_id), unit_names.get(change.unit), seats, now)
        for change in changes
    ]
    return Seating(steps, *seats.groups())


def _decide(
    change: Change,
    before: Placement | None,
    unit_name: Mapping[str, str] | None,
    seats: _Seats,
    now: datetime,
) -> Step[Placement]:
    member_id, member_sequence, unit, leaves, redrawn = change
    if before is not None and _stays(before, change, unit_known=unit_name is not None):
        return Step(replace(before, member_sequence=member_sequence))
    if redrawn and not leaves and before is not None and before.group_id is not None:
        return _kept(before, change, seats.group(before.group_id))
    events: list[Numbered] = []
    sequence, group_id, ordinal, kind = 0, None, None, GroupKind.GENERAL.value
    if before is not None:
        sequence, kind = before.sequence, before.kind
    if before is not None and before.group_id is not None:
        sequence += 1
        left = seats.release(before.group_id)
        removed = GroupMemberRemoved(
            member_id=member_id,
            group_id=left.id,
            unit=left.unit,
            kind=left.kind,
            ordinal=left.ordinal,
            reason="left" if leaves else "moved",
            member_sequence=member_sequence,
        )
        events.append(Numbered(removed, sequence))
    if leaves:
        state = PlacementState.LEFT
    elif unit_name is None:
        state = PlacementState.WAITING_UNIT
        sequence += 1
        waiting = GroupMemberWaiting(
            member_id=member_id, unit=unit, reason="waiting_unit", member_sequence=member_sequence
        )
        events.append(Numbered(waiting, sequence))
    else:
        state = PlacementState.ASSIGNED
        sequence += 1
        group, created, filled = seats.take(unit, unit_name)
        group_id, ordinal, kind = group.id, group.ordinal, group.kind
        assigned = GroupMemberAssigned(
            member_id=member_id,
            group_id=group_id,
            unit=unit,
            kind=kind,
            ordinal=ordinal,
            invite_ready=group.invite_ready,
            member_sequence=member_sequence,
        )
        events += [*created, Numbered(assigned, sequence), *filled]
    after = Placement(
        member_id=member_id,
        member_sequence=member_sequence,
        sequence=sequence,
        unit=unit,
        group_id=group_id,
        kind=kind,
        ordinal=ordinal,
        state=state,
        since=now,
    )
    return Step(after, tuple(events))


def _kept(before: Placement, change: Change, group: Group | GroupSeats) -> Step[Placement]:
    """The same seat. The event says of which unit the group is, which follows by itself."""
    after = replace(
        before,
        unit=change.unit,
        ordinal=group.ordinal,
        member_sequence=change.sequence,
        sequence=before.sequence + 1,
    )
    event = GroupMemberRedrawn(
        member_id=change.member_id,
        group_id=group.id,
        unit=group.unit,
        member_unit=change.unit,
        kind=group.kind,
        ordinal=group.ordinal,
        member_sequence=change.sequence,
    )
    return Step(after, (Numbered(event, after.sequence),))


def _stays(before: Placement, change: Change, *, unit_known: bool) -> bool:
    """Whether the member is already where the change wants them, and everybody has been told."""
    if before.unit != change.unit:
        return False
    if change.leaves:
        return before.state is PlacementState.LEFT
    if before.group_id is not None:
        return True
    told_to_wait = before.state is PlacementState.WAITING_UNIT and before.sequence > 0
    return told_to_wait and not unit_known


@dataclass(slots=True)
class _Tally:
    """The seats of one group while changes are decided."""

    group: Group | GroupSeats
    taken: int
    version: int

    @property
    def full(self) -> bool:
        return self.taken >= self.group.capacity


_by_ordinal = attrgetter("group.ordinal")
_counts = attrgetter("group", "taken", "version")


class _Seats:
    """The seats of all groups while changes are decided.

    Counts are kept beside the groups, which stay as they are. Each group that was touched is made anew once,
    at the end: 500 members who join one unit cost one new group, not 500.
    """

    def __init__(
        self,
        groups: Iterable[GroupSeats],
        last_ordinals: Mapping[str, int],
        capacity: int,
        new_id: Callable[[], str],
        now: datetime,
    ) -> None:
        self._last_ordinals = dict(last_ordinals)
        self._capacity = capacity
        self._new_id = new_id
        self._now = now
        self._tallies = {group.id: _Tally(group, group.taken, group.version) for group in groups}
        self._touched: dict[str, _Tally] = {}
        self._open: dict[str, list[_Tally]] = {}
        for tally in self._tallies.values():
            if not tally.full:
                self._open.setdefault(tally.group.unit, []).append(tally)
        for tallies in self._open.values():
            tallies.sort(key=_by_ordinal)

    def take(
        self, unit: str, unit_name: Mapping[str, str]
    ) -> tuple[Group | GroupSeats, Sequence[Numbered], Sequence[Numbered]]:
        """Take a seat: the group, and its events that come before and after the member's."""
        created: Sequence[Numbered] = ()
        filled: Sequence[Numbered] = ()
        open_groups = self._open.setdefault(unit, [])
        if not open_groups:
            open_groups.append(self._create(unit, unit_name))
            created = (Numbered(_describe(GroupCreated, open_groups[0].group), 1),)
        tally = open_groups[0]
        tally.taken += 1
        if tally.full:
            del open_groups[0]
            tally.version += 1
            filled = (Numbered(_describe(GroupFilled, tally.group), tally.version),)
        self._touched[tally.group.id] = tally
        return tally.group, created, filled

    def group(self, group_id: str) -> Group | GroupSeats:
        return self._tallies[group_id].group

    def release(self, group_id: str) -> Group | GroupSeats:
        """Free a seat."""
        tally = self._tallies[group_id]
        was_full = tally.full
        tally.taken = max(0, tally.taken - 1)
        if was_full and not tally.full:
            insort(self._open.setdefault(tally.group.unit, []), tally, key=_by_ordinal)
        self._touched[group_id] = tally
        return tally.group

    def groups(self) -> tuple[list[Group], list[GroupSeats]]:
        """The groups that are new, and those that have changed."""
        created: list[Group] = []
        changed: list[GroupSeats] = []
        for group, taken, version in map(_counts, self._touched.values()):
            if isinstance(group, Group):
                created.append(replace(group, taken=taken, version=version))
            else:
                changed.append(group._replace(taken=taken, version=version))
        return created, changed

    def _create(self, unit: str, unit_name: Mapping[str, str]) -> _Tally:
        ordinal = self._last_ordinals.get(unit, 0) + 1
        self._last_ordinals[unit] = ordinal
        group = Group(
            id=self._new_id(),
            unit=unit,
            kind=GroupKind.GENERAL.value,
            ordinal=ordinal,
            capacity=self._capacity,
            created_at=self._now,
            updated_at=self._now,
            name=group_name(unit_name, ordinal),
        )
        tally = self._tallies[group.id] = _Tally(group, group.taken, group.version)
        return tally


G = TypeVar("G", GroupCreated, GroupFilled)


def _describe(event: type[G], group: Group | GroupSeats) -> G:
    return event(
        group_id=group.id, unit=group.unit, kind=group.kind, ordinal=group.ordinal, capacity=group.capacity
    )
