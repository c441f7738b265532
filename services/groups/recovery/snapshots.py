"""Snapshots of units, groups and placements for `republish`.

Of an invite link a snapshot tells only whether there is one.
"""

from __future__ import annotations

from typing import Final, Literal

from services.groups.core.domain import PlacementState, Seat, unit_upserted
from services.groups.core.observations.store import OBSERVATIONS
from services.groups.core.policy import applied
from services.groups.core.store import GROUPS, PLACEMENTS, POLICIES, UNITS
from services.shared.contracts.groups import (
    GroupSnapshot,
    ObservationSnapshot,
    PlacementSnapshot,
    PolicyApplied,
    SeatHeld,
    UnitSucceeded,
    UnitUpserted,
)
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
        retired=group.retired,
        shrinks_to=group.shrinks_to,
    )
    return snapshot, group.version


def placement(row: Document) -> tuple[PlacementSnapshot, int]:
    placement = PLACEMENTS.decode(row)
    snapshot = PlacementSnapshot(
        member_id=placement.member_id,
        unit=placement.group_unit or placement.unit,
        member_unit=placement.unit if placement.group_unit else None,
        state=placement.state.value,
        group_id=placement.group_id,
        kind=placement.kind,
        ordinal=placement.ordinal,
        since=placement.since,
        member_sequence=placement.member_sequence,
        seats=tuple([_held(seat) for seat in placement.seats or ()]),
        meant=placement.meant,
    )
    return snapshot, placement.sequence


def policy(row: Document) -> tuple[PolicyApplied, int]:
    event, version = applied(POLICIES.decode(row))
    assert isinstance(event, PolicyApplied)
    return event, version


def _held(seat: Seat) -> SeatHeld:
    shape = {name: getattr(seat, name) for name in SeatHeld.model_fields}
    return SeatHeld(**shape | {"state": seat.state.value})


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


MAX_OBSERVED: Final = 64
"""Groups in which a member may have been observed, of those published again for a repair."""
SOURCES: Final = (
    Source("policies", "_id", POLICIES.keys, policy),
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
    Source(
        "observations",
        "unit",
        OBSERVATIONS.keys,
        observation,
        where={"sequence": {"$gt": 0}},
        subject="member_id",
        each=MAX_OBSERVED,
    ),
)
