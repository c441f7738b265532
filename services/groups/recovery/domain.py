"""Units, groups and placements as the events of this service's own topic leave them."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

from services.groups.core.domain import Group, Placement, PlacementState, Unit, group_name
from services.shared.contracts.base import Envelope
from services.shared.contracts.groups import (
    GroupCreated,
    GroupFilled,
    GroupInviteChanged,
    GroupMemberAssigned,
    GroupMemberRedrawn,
    GroupMemberRemoved,
    GroupMemberWaiting,
    GroupSnapshot,
    GroupUpdated,
    PlacementSnapshot,
    UnitSucceeded,
    UnitUpserted,
)
from services.shared.contracts.vocabulary import LEVELS, GroupKind, depth_of, parent_of

GroupEvent: TypeAlias = GroupCreated | GroupUpdated | GroupFilled | GroupInviteChanged | GroupSnapshot
PlacementEvent: TypeAlias = (
    GroupMemberAssigned | GroupMemberWaiting | GroupMemberRemoved | GroupMemberRedrawn | PlacementSnapshot
)


class UnknownGroupError(Exception):
    """An event that does not describe the group comes first: the beginning of its log is missing."""


def restored_unit(event: Envelope[UnitUpserted], before: Unit | None) -> Unit:
    """Older events have no names: the code stands in for them until the tree is loaded again."""
    unit = event.data
    return Unit(
        code=unit.unit,
        level=unit.level,
        parent=unit.parent,
        name=unit.names or (before.name if before else {"en": unit.unit, "hi": unit.unit}),
        women_target=unit.women_target,
        version=event.sequence,
        constituency=unit.constituency,
        constituency_name=before.constituency_name if before else None,
        successors=before.successors if before else None,
        retired_at=before.retired_at if before else None,
        redrawing_id=before.redrawing_id if before else None,
    )


def retired_unit(event: Envelope[UnitSucceeded], before: Unit | None) -> Unit:
    """A unit of which nothing else is known was announced before the log begins."""
    code = event.data.unit
    level = LEVELS[min(depth_of(code), len(LEVELS)) - 1].value
    known = before or Unit(code, level, parent_of(code), {"en": code, "hi": code})
    return replace(
        known,
        version=event.sequence,
        successors=event.data.successors,
        retired_at=event.time,
        redrawing_id=event.data.redrawing_id,
    )


def restored_group(event: Envelope[GroupEvent], before: Group | None) -> Group:
    """The link itself is not in the log, so a group that had one must get it again: `link_lost`.

    A link that a dump had may have been withdrawn since, so an event about the link clears it.

    Raises: `UnknownGroupError`.
    """
    told, time = event.data, event.time
    if isinstance(told, GroupInviteChanged):
        if before is None:
            raise UnknownGroupError
        after = before
    else:
        new = Group(told.group_id, told.unit, told.kind, told.ordinal, told.capacity, time, time)
        after = replace(before or new, kind=told.kind, ordinal=told.ordinal, capacity=told.capacity)
    after = replace(after, unit=told.unit, version=event.sequence, updated_at=time)
    if isinstance(told, GroupInviteChanged | GroupSnapshot):
        after = replace(after, invite_link=None, link_lost=True if told.invite_ready else None)
    return after


def restored_placement(event: Envelope[PlacementEvent], before: Placement | None) -> Placement:
    told, applied = event.data, before.member_sequence if before else 0
    state, group_id, ordinal = _seat(told)
    return Placement(
        member_id=told.member_id,
        member_sequence=max(applied, told.member_sequence) if completes_answer(told) else applied,
        sequence=event.sequence,
        unit=told.member_unit if isinstance(told, GroupMemberRedrawn) else told.unit,
        group_id=group_id,
        kind=GroupKind.GENERAL.value if isinstance(told, GroupMemberWaiting) else told.kind,
        ordinal=ordinal,
        state=state,
        since=told.since if isinstance(told, PlacementSnapshot) else event.time,
    )


def completes_answer(told: PlacementEvent) -> bool:
    """A seat given up for another is half of an answer: the other half is still to come."""
    return not (isinstance(told, GroupMemberRemoved) and told.reason == "moved")


def settled_group(group: Group, taken: int, unit: Unit | None) -> Group:
    """The group with the seats that are taken according to the placements, and with a name if it had none."""
    unit_name = unit.name if unit else {"en": group.unit, "hi": group.unit}
    return replace(group, taken=taken, name=group.name or group_name(unit_name, group.ordinal))


def _seat(told: PlacementEvent) -> tuple[PlacementState, str | None, int | None]:
    """State, group and ordinal. A member who gave up a seat for another waits until the next event."""
    match told:
        case GroupMemberAssigned() | GroupMemberRedrawn():
            return PlacementState.ASSIGNED, told.group_id, told.ordinal
        case GroupMemberWaiting():
            return PlacementState(told.reason), None, None
        case GroupMemberRemoved():
            return PlacementState.LEFT if told.reason == "left" else PlacementState.WAITING_UNIT, None, None
        case PlacementSnapshot():
            return PlacementState(told.state), told.group_id, told.ordinal
