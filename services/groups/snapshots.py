"""Units, groups and placements as they are. Of an invite link only its presence is read."""

from __future__ import annotations

from typing import Final

from services.groups.units import unit_upserted
from services.shared.contracts.groups import GroupSnapshot, PlacementSnapshot, UnitUpserted
from services.shared.database import Document
from services.shared.operations.republish import Source


def unit(row: Document) -> tuple[UnitUpserted, int]:
    return unit_upserted(row), row["version"]


def group(row: Document) -> tuple[GroupSnapshot, int]:
    snapshot = GroupSnapshot(
        group_id=row["_id"],
        unit=row["unit"],
        kind=row["kind"],
        ordinal=row["ordinal"],
        capacity=row["capacity"],
        invite_ready=row["invite_link"] is not None,
    )
    return snapshot, row["version"]


def placement(row: Document) -> tuple[PlacementSnapshot, int]:
    snapshot = PlacementSnapshot(
        member_id=row["_id"],
        unit=row["unit"],
        state=row["state"],
        group_id=row["group_id"],
        kind=row["kind"],
        ordinal=row["ordinal"],
        since=row["since"],
        member_sequence=row["member_sequence"],
    )
    return snapshot, row["sequence"]


SOURCES: Final = (
    Source("units", "_id", ("level", "parent", "women_target", "name", "version"), unit),
    Source("groups", "unit", ("unit", "kind", "ordinal", "capacity", "invite_link", "version"), group),
    Source(
        "placements",
        "unit",
        ("unit", "state", "group_id", "kind", "ordinal", "since", "member_sequence", "sequence"),
        placement,
        # Of those without an event (left before they had a seat) nobody was told.
        where={"sequence": {"$gt": 0}},
    ),
)
