"""Snapshots of units, groups and placements for `republish`.

Of an invite link a snapshot tells only whether there is one.
"""

from __future__ import annotations

from typing import Final

from services.groups.core.domain import unit_upserted
from services.groups.core.store import GROUPS, PLACEMENTS, UNITS
from services.shared.contracts.groups import GroupSnapshot, PlacementSnapshot, UnitSucceeded, UnitUpserted
from services.shared.database import Document
from services.shared.runtime import Source


def unit(row: Document) -> tuple[UnitUpserted, int]:
    """A retired unit as it was before: the last of its events says what became of it."""
    unit = UNITS.decode(row)
    return unit_upserted(unit), unit.version if unit.is_live else unit.version - 1


def succession(row: Document) -> tuple[UnitSucceeded, int]:
    unit = UNITS.decode(row)
    assert unit.redrawing_id is not None
    event = UnitSucceeded(unit=unit.code, successors=unit.successors or (), redrawing_id=unit.redrawing_id)
    return event, unit.version


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


SOURCES: Final = (
    Source("units", "_id", UNITS.keys, unit),
    Source("units", "_id", UNITS.keys, succession, where={"successors": {"$exists": True}}),
    Source("groups", "unit", GROUPS.keys, group),
    Source(
        "placements",
        "unit",
        PLACEMENTS.keys,
        placement,
        # Nobody was told of a placement without an event: the member left before they had a seat.
        where={"sequence": {"$gt": 0}},
    ),
)
