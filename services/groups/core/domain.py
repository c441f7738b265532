"""Units, groups and placements, and the rules that several features share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal
from uuid import UUID, uuid5

from services.shared.contracts.groups import GroupUpdated, UnitUpserted
from services.shared.contracts.vocabulary import GroupKind

GENERAL: Final = GroupKind.GENERAL.value
"""The kind of the groups that everybody has a seat in, and the id of the rule that gives it."""


class GroupState(StrEnum):
    OPEN = "open"
    FULL = "full"


class PlacementState(StrEnum):
    """Placement decides on a seat, on waiting, on leaving, and on `removed`: the policy has no seat for the
    member. The other states are observed later. `left` is also the state of a member who has no seat because
    they have no number of their own."""

    WAITING_UNIT = "waiting_unit"
    WAITING_SEAT = "waiting_seat"
    ASSIGNED = "assigned"
    INVITED = "invited"
    JOINED = "joined"
    LEFT = "left"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Unit:
    """One place in the tree. `name` is by language code; `version` counts the unit's events.

    `constituency` is the number of the assembly constituency in which it lies, `constituency_name` its name.
    `successors` is None while the unit is live; a retired one has those that it became, if any, and its code
    is never used again.
    """

    code: str
    level: str
    parent: str | None
    name: Mapping[str, str]
    women_target: float | None = None
    version: int = 1
    constituency: int | None = None
    constituency_name: Mapping[str, str] | None = None
    successors: tuple[str, ...] | None = None
    retired_at: datetime | None = None
    redrawing_id: str | None = None
    """The comparison by which it was retired."""

    @property
    def is_live(self) -> bool:
        return self.successors is None


@dataclass(frozen=True, slots=True)
class Group:
    """One chat group of a unit; `ordinal` counts a unit's groups of one kind from 1.

    `taken` and `capacity` are in seats; `admins` counts the people who run it. `version` counts the group's
    events. `link_lost` is True if a rebuild lost the invite link, until it is set again. `name` is empty only
    while a rebuild is at work. `retired` says that nobody gets a seat any more: a `closing` group is being
    emptied, or is split until it has no more members than `shrinks_to`; an `archived` one is empty for good.

    The link is stored as `sealed_link`; `invite_link` is the link itself where it has been opened, or as a
    process of release 0.1.0 has stored it. It is in no repr.
    """

    id: str
    unit: str
    kind: str
    ordinal: int
    capacity: int
    created_at: datetime
    updated_at: datetime
    name: Mapping[str, str] = field(default_factory=dict)
    taken: int = 0
    invite_link: str | None = field(default=None, repr=False)
    version: int = 1
    link_lost: bool | None = None
    retired: Literal["closing", "archived"] | None = None
    shrinks_to: int | None = None
    admins: int = 0
    sealed_link: bytes | None = field(default=None, repr=False)

    @property
    def state(self) -> GroupState:
        """A retired group counts as full, for processes of any release: it has no seat to give."""
        return GroupState.FULL if self.retired else seat_state(self.taken, self.capacity)

    @property
    def invite_ready(self) -> bool:
        return self.invite_link is not None or self.sealed_link is not None


@dataclass(frozen=True, slots=True)
class RoleIn:
    """A role in a unit."""

    role: str
    unit: str


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts that rules of a policy ask about a member, besides unit and status.

    `gender` is None while it is undisclosed, `asked` is True while the member consents to chat groups
    (purpose `group`). `at` is the sequence of the last event that stated all of them, and `gender_at`,
    `asked_at`, `roles_at` those of later events that stated one; a fact that no event has stated is not
    known. `until` is set by a rebuild: seats stay as they are until the member's events up to that sequence
    are heard again.
    """

    at: int = 0
    gender: str | None = None
    asked: bool | None = None
    roles: tuple[RoleIn, ...] | None = None
    gender_at: int | None = None
    asked_at: int | None = None
    roles_at: int | None = None
    until: int | None = None

    @property
    def newest(self) -> int:
        return max(self.at, self.gender_at or 0, self.asked_at or 0, self.roles_at or 0)


UNKNOWN: Final = Facts()


@dataclass(frozen=True, slots=True)
class Seat:
    """A seat of a member, or their place in a waiting list, by one rule of the policy. `unit` is the group's;
    `since` is when it was taken or, of one who waits, when it was first wanted."""

    rule: str
    kind: str
    unit: str
    state: PlacementState
    since: datetime
    group_id: str | None = None
    ordinal: int | None = None
    meant: str | None = None
    """The unit that the rule gives the seat in, if the tree was redrawn and the group is of another now: the
    seat is kept."""

    @property
    def given_in(self) -> str:
        return self.meant or self.unit

    @property
    def is_waiting(self) -> bool:
        return self.state in (PlacementState.WAITING_SEAT, PlacementState.WAITING_UNIT)


@dataclass(frozen=True, slots=True)
class Placement:
    """The places of one member: by the rule `general` in the fields of its own, as in the first release, by
    the other rules in `seats`.

    `member_sequence` is the last event of the member that stated unit and status and was applied; `sequence`
    counts the placement's own. `unit` is the member's; `group_unit` is that of the general group, if it is
    another, and `meant` as in `Seat`. `policy` is the version of the policy that decided, None for that of
    the settings.
    """

    member_id: str
    member_sequence: int
    sequence: int
    unit: str
    group_id: str | None
    kind: str
    ordinal: int | None
    state: PlacementState
    since: datetime
    group_unit: str | None = None
    meant: str | None = None
    policy: int | None = None
    facts: Facts | None = None
    seats: tuple[Seat, ...] | None = None

    @property
    def is_out(self) -> bool:
        """Whether the member has left, or has no number of their own."""
        return self.state is PlacementState.LEFT

    @property
    def heard(self) -> int:
        """The newest event of the member that is known."""
        return max(self.member_sequence, self.facts.newest) if self.facts else self.member_sequence

    @property
    def group_ids(self) -> tuple[str, ...]:
        """The groups in which the member has a seat."""
        others = [seat.group_id for seat in self.seats or () if seat.group_id]
        return (self.group_id, *others) if self.group_id else tuple(others)

    @property
    def held(self) -> tuple[Seat, ...]:
        """All seats and places in waiting lists, the general one first."""
        others = self.seats or ()
        if self.group_id is None and self.state in (PlacementState.LEFT, PlacementState.REMOVED):
            return others
        unit = self.group_unit or self.unit
        at = (self.group_id, self.ordinal, self.meant)
        general = Seat(GENERAL, self.kind, unit, self.state, self.since, *at)
        return (general, *others)

    @property
    def by_group(self) -> dict[str, Seat]:
        """The seats that are taken, by the group's id."""
        return {seat.group_id: seat for seat in self.held if seat.group_id is not None}


def seat_state(taken: int, capacity: int) -> GroupState:
    return GroupState.FULL if taken >= capacity else GroupState.OPEN


def unit_upserted(unit: Unit) -> UnitUpserted:
    return UnitUpserted(
        unit=unit.code,
        level=unit.level,
        parent=unit.parent,
        women_target=unit.women_target,
        names=dict(unit.name),
        constituency=unit.constituency,
    )


def group_updated(group: Group) -> GroupUpdated:
    """All that the log says of the group, but for its link and admins."""
    return GroupUpdated(
        group_id=group.id,
        unit=group.unit,
        kind=group.kind,
        ordinal=group.ordinal,
        capacity=group.capacity,
        retired=group.retired,
        shrinks_to=group.shrinks_to,
    )


_NAMES: Final[Mapping[str, Mapping[str, str]]] = {
    GroupKind.GENERAL: {"en": "group", "hi": "समूह"},
    GroupKind.WOMEN: {"en": "women's group", "hi": "महिला समूह"},
    GroupKind.IT_CELL: {"en": "IT cell", "hi": "आईटी सेल"},
    GroupKind.COORDINATORS: {"en": "coordinators", "hi": "समन्वयक समूह"},
}


def group_name(unit_name: Mapping[str, str], ordinal: int, kind: str = GENERAL) -> dict[str, str]:
    """The name of a new group in both scripts; the first group of a unit needs no number."""
    words = _NAMES.get(kind, _NAMES[GroupKind.GENERAL])
    number = "" if ordinal == 1 else f" {ordinal}"
    return {language: f"{unit_name[language]} {words[language]}{number}" for language in ("en", "hi")}


_GROUP_IDS: Final = UUID("6f5c1c2e-6d8e-5b0a-9f1d-2b7a4c3e8d10")


def group_id_of(unit: str, kind: str, ordinal: int) -> str:
    """The id of a new group. It follows from what the group is, so that a preview names the very group that
    applying the policy opens; unit codes and ordinals are never used twice."""
    return str(uuid5(_GROUP_IDS, f"{unit}/{kind}/{ordinal}"))
