"""The seats of groups: how many are taken while requests are decided; groups that open and close. Pure."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from services.groups.core.domain import Group, GroupState, group_id_of, group_name, seat_state
from services.groups.core.policy import Policy
from services.shared.contracts.base import Numbered, Step
from services.shared.contracts.groups import GroupArchived, GroupCreated, GroupFilled, GroupInviteChanged

Pair = tuple[str, str]
"""(unit, kind): groups of one pair share their members."""


class GroupSeats(NamedTuple):
    """The seats of a group: all that seating reads of one that exists, and all that it changes in it."""

    id: str
    unit: str
    kind: str
    ordinal: int
    capacity: int
    taken: int = 0
    version: int = 1
    retired: bool = False
    invite_ready: bool = False

    @property
    def state(self) -> GroupState:
        return GroupState.FULL if self.retired else seat_state(self.taken, self.capacity)


class Numbering(NamedTuple):
    """The highest ordinal of a pair, and how many of its groups are not archived."""

    last: int = 0
    live: int = 0


@dataclass(slots=True)
class _Tally:
    """The seats of one group while requests are decided."""

    group: Group | GroupSeats
    taken: int
    version: int

    @property
    def full(self) -> bool:
        return bool(self.group.retired) or self.taken >= self.group.capacity


_by_ordinal = attrgetter("group.ordinal")
_counts = attrgetter("group", "taken", "version")


class SeatCounts:
    """The seats of all groups while requests are decided.

    Counts are kept beside the groups, which stay as they are. Each group that was touched is made anew once,
    at the end: 500 members who join one unit cost one new group, not 500.
    """

    def __init__(
        self, groups: Iterable[GroupSeats], numbering: Mapping[Pair, Numbering], policy: Policy, now: datetime
    ) -> None:
        self._numbering = dict(numbering)
        self._policy = policy
        self._now = now
        self._tallies = {group.id: _Tally(group, group.taken, group.version) for group in groups}
        self._touched: dict[str, _Tally] = {}
        self._open: dict[Pair, list[_Tally]] = {}
        for tally in self._tallies.values():
            if not tally.full:
                self._open.setdefault((tally.group.unit, tally.group.kind), []).append(tally)
        for tallies in self._open.values():
            tallies.sort(key=_by_ordinal)

    def has_room(self, unit: str, kind: str) -> bool:
        """Whether a seat is free, or the policy allows another group."""
        if self._open.get((unit, kind)):
            return True
        cap = self._policy.caps.get(kind)
        if cap is None or cap.groups is None:
            return cap is not None
        return self._numbering.get((unit, kind), Numbering()).live < cap.groups

    def take(
        self, unit: str, kind: str, unit_name: Mapping[str, str]
    ) -> tuple[Group | GroupSeats, Numbered | None, Numbered | None]:
        """Take a seat: the group, and its events that come before and after the member's."""
        created = filled = None
        open_groups = self._open.setdefault((unit, kind), [])
        if not open_groups:
            open_groups.append(self._create(unit, kind, unit_name))
            created = Numbered(described(GroupCreated, open_groups[0].group), 1)
        tally = open_groups[0]
        tally.taken += 1
        if tally.full:
            del open_groups[0]
            tally.version += 1
            filled = Numbered(described(GroupFilled, tally.group), tally.version)
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
            insort(self._open.setdefault((tally.group.unit, tally.group.kind), []), tally, key=_by_ordinal)
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

    def _create(self, unit: str, kind: str, unit_name: Mapping[str, str]) -> _Tally:
        last, live = self._numbering.get((unit, kind), Numbering())
        self._numbering[unit, kind] = Numbering(last + 1, live + 1)
        group = new_group(unit, kind, last + 1, self._policy.caps[kind].capacity, unit_name, self._now)
        tally = self._tallies[group.id] = _Tally(group, group.taken, group.version)
        return tally


def archived(group: Group, now: datetime) -> Step[Group]:
    """The group taken out of use for good, with its link. It must be empty."""
    events: list[Any] = []
    if group.invite_ready:
        events.append(GroupInviteChanged(group_id=group.id, unit=group.unit, invite_ready=False))
    events.append(GroupArchived(group_id=group.id, unit=group.unit, kind=group.kind, ordinal=group.ordinal))
    after = replace(
        group,
        invite_link=None,
        sealed_link=None,
        link_lost=None,
        retired="archived",
        version=group.version + len(events),
        updated_at=now,
    )
    return Step(after, tuple([Numbered(event, n) for n, event in enumerate(events, group.version + 1)]))


def new_group(
    unit: str, kind: str, ordinal: int, capacity: int, unit_name: Mapping[str, str], now: datetime
) -> Group:
    return Group(
        id=group_id_of(unit, kind, ordinal),
        unit=unit,
        kind=kind,
        ordinal=ordinal,
        capacity=capacity,
        created_at=now,
        updated_at=now,
        name=group_name(unit_name, ordinal, kind),
    )


G = TypeVar("G", GroupCreated, GroupFilled)


def described(event: type[G], group: Group | GroupSeats) -> G:
    return event(
        group_id=group.id, unit=group.unit, kind=group.kind, ordinal=group.ordinal, capacity=group.capacity
    )
