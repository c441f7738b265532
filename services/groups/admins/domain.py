"""Rules on who may run a chat group, and on what a group lacks. Pure."""

from __future__ import annotations

from collections.abc import Collection as Many
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from services.shared.contracts.vocabulary import lineage

ENOUGH: Final = 2
"""Admins that every group should have: one may lose the phone."""
MAX_ADMINS: Final = 20
ROLES: Final = ("coordinator", "women_wing", "it_cell", "youth")
"""Roles whose holders are asked to run groups, the first first."""


class Lack(StrEnum):
    """Something that a group lacks."""

    NO_LINK = "no_link"
    NO_ADMIN = "no_admin"
    ONE_ADMIN = "one_admin"


class TaskKind(StrEnum):
    """Work that only somebody in the chat group can do; `hand_over`: an admin left, somebody must follow."""

    ADD = "add"
    REMOVE = "remove"
    HAND_OVER = "hand_over"


@dataclass(frozen=True, slots=True)
class HeldRole:
    role: str
    unit: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class RoleHolder:
    """The roles of a member by the event with this sequence; none for one who left."""

    member_id: str
    sequence: int
    roles: tuple[HeldRole, ...] = ()


class Candidate(NamedTuple):
    """Somebody who could run a group, because of this role in this unit."""

    member_id: str
    role: str
    unit: str


def candidates(unit: str, holders: Iterable[RoleHolder], admins: Many[str], now: datetime) -> list[Candidate]:
    """People with a role in the unit or above it who do not run the group yet, the nearest first."""
    above = lineage(unit)
    found: dict[str, tuple[int, int, Candidate]] = {}
    for holder in holders:
        for held in holder.roles:
            over = held.until is not None and held.until <= now
            if held.unit not in above or held.role not in ROLES or over or holder.member_id in admins:
                continue
            candidate = Candidate(holder.member_id, held.role, held.unit)
            ranked = (-held.unit.count("-"), ROLES.index(held.role), candidate)
            found[holder.member_id] = min(found.get(holder.member_id, ranked), ranked)
    return [candidate for _, _, candidate in sorted(found.values())]


def problems(*, linked: bool, admins: int) -> list[Lack]:
    found = [] if linked else [Lack.NO_LINK]
    if admins < ENOUGH:
        found.append(Lack.ONE_ADMIN if admins else Lack.NO_ADMIN)
    return found
