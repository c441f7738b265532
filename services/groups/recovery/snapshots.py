"""Snapshots of units, groups and placements for `republish`.

Of an invite link a snapshot tells only whether there is one.
"""

from __future__ import annotations

from typing import Final, Literal

from services.groups.core.domain import PlacementState, unit_upserted
from services.groups.core.observations.store import OBSERVATIONS
from services.groups.core.store import GROUPS, PLACEMENTS, UNITS
from services.shared.contracts.groups import (
    GroupSnapshot,
    ObservationSnapshot,
    PlacementSnapshot,
    UnitUpserted,
)
from services.shared.database import Document
from services.shared.runtime import Source


def unit(row: Document) -> tuple[UnitUpserted, int]:
    unit = UNITS.decode(row)
    return unit_upserted(unit), unit.version


def group(row: Document) -> tuple[GroupSnapshot, int]:
    group = GROUPS.decode(row)
    snapshot = GroupSnapshot(
        group_id=group.id,
        unit=group.unit,
        kind=group.kind,
        ordinal=group.ordinal,
        capacity=group.capacity,
        invite_ready=group.invite_ready,
    )
    return snapshot, group.version


def placement(row: Document) -> tuple[PlacementSnapshot, int]:
    placement = PLACEMENTS.decode(row)
    snapshot = PlacementSnapshot(
        member_id=placement.member_id,
        unit=placement.unit,
        state=placement.state.value,
        group_id=placement.group_id,
        kind=placement.kind,
        ordinal=placement.ordinal,
        since=placement.since,
        member_sequence=placement.member_sequence,
    )
    return snapshot, placement.sequence


def observation(row: Document) -> tuple[ObservationSnapshot, int]:
    known = OBSERVATIONS.decode(row)
    state: Literal["joined", "left"] | None = None
    if known.present_at is not None:
        state = "left" if known.state is PlacementState.LEFT else "joined"
    snapshot = ObservationSnapshot(
        member_id=known.member_id,
        group_id=known.group_id,
        unit=known.unit,
        kind=known.kind,
        state=state,
        observed_at=known.observed_at,
        attempts=known.reinvites,
    )
    return snapshot, known.sequence


SOURCES: Final = (
    Source("units", "_id", UNITS.keys, unit),
    Source("groups", "unit", GROUPS.keys, group),
    Source(
        "placements",
        "unit",
        PLACEMENTS.keys,
        placement,
        # Nobody was told of a placement without an event: the member left before they had a seat.
        where={"sequence": {"$gt": 0}},
    ),
    Source("observations", "unit", OBSERVATIONS.keys, observation, where={"sequence": {"$gt": 0}}),
)
