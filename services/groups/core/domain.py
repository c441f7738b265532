"""Units, groups and placements, and the rules that several features share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from services.shared.contracts.groups import UnitUpserted


class GroupState(StrEnum):
    OPEN = "open"
    FULL = "full"


class PlacementState(StrEnum):
    """Placement decides on a seat, on waiting and on leaving; the other states are observed later. `left` is
    also the state of a member who has no seat because they have no number of their own."""

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

    `taken` and `capacity` are in seats. `version` counts the group's events. `link_lost` is True if a rebuild
    lost the invite link, until it is set again. `name` is empty only while a rebuild is at work.
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
    invite_link: str | None = None
    version: int = 1
    link_lost: bool | None = None

    @property
    def state(self) -> GroupState:
        return seat_state(self.taken, self.capacity)

    @property
    def invite_ready(self) -> bool:
        return self.invite_link is not None


@dataclass(frozen=True, slots=True)
class Placement:
    """The place of one member.

    `member_sequence` is the last event of the member that was applied; `sequence` counts the placement's own.
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


def group_name(unit_name: Mapping[str, str], ordinal: int) -> dict[str, str]:
    """The name of a new group in both scripts; the first group of a unit needs no number."""
    if ordinal == 1:
        return {"en": f"{unit_name['en']} group", "hi": f"{unit_name['hi']} समूह"}
    return {"en": f"{unit_name['en']} group {ordinal}", "hi": f"{unit_name['hi']} समूह {ordinal}"}
