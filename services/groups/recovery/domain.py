"""Units, groups and placements as the events of this service's own topic leave them."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

from services.groups.core.domain import Group, Placement, PlacementState, Unit, group_name
from services.groups.core.observations.domain import Observation, observation_id, seated
from services.shared.contracts.base import Envelope
from services.shared.contracts.groups import (
    GroupAdminsChanged,
    GroupCreated,
    GroupFilled,
    GroupInviteChanged,
    GroupInviteLapsed,
    GroupMemberAssigned,
    GroupMemberObserved,
    GroupMemberRemoved,
    GroupMemberWaiting,
    GroupSnapshot,
    GroupUpdated,
    ObservationSnapshot,
    PlacementSnapshot,
    UnitUpserted,
)
from services.shared.contracts.vocabulary import EARLIEST, GroupKind

GroupEvent: TypeAlias = (
    GroupCreated | GroupUpdated | GroupFilled | GroupInviteChanged | GroupAdminsChanged | GroupSnapshot
)
ObservationEvent: TypeAlias = GroupMemberObserved | GroupInviteLapsed | ObservationSnapshot
PlacementEvent: TypeAlias = GroupMemberAssigned | GroupMemberWaiting | GroupMemberRemoved | PlacementSnapshot


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
    )


def restored_group(event: Envelope[GroupEvent], before: Group | None) -> Group:
    """The link itself is not in the log, so a group that had one must get it again: `link_lost`.

    A link that a dump had may have been withdrawn since, so an event about the link clears it.

    Raises: `UnknownGroupError`.
    """
    told, time = event.data, event.time
    if isinstance(told, GroupInviteChanged | GroupAdminsChanged):
        if before is None:
            raise UnknownGroupError
        after = before
    else:
        new = Group(told.group_id, told.unit, told.kind, told.ordinal, told.capacity, time, time)
        after = replace(before or new, kind=told.kind, ordinal=told.ordinal, capacity=told.capacity)
    after = replace(after, unit=told.unit, version=event.sequence, updated_at=time)
    if isinstance(told, GroupInviteChanged | GroupSnapshot):
        lost = True if told.invite_ready else None
        after = replace(after, invite_link=None, sealed_link=None, link_lost=lost)
    return after


def restored_placement(event: Envelope[PlacementEvent], before: Placement | None) -> Placement:
    told, applied = event.data, before.member_sequence if before else 0
    state, group_id, ordinal = _seat(told)
    return Placement(
        member_id=told.member_id,
        member_sequence=max(applied, told.member_sequence) if completes_answer(told) else applied,
        sequence=event.sequence,
        unit=told.unit,
        group_id=group_id,
        kind=GroupKind.GENERAL.value if isinstance(told, GroupMemberWaiting) else told.kind,
        ordinal=ordinal,
        state=state,
        since=told.since if isinstance(told, PlacementSnapshot) else event.time,
    )


def restored_observation(event: Envelope[ObservationEvent], before: Observation | None) -> Observation:
    """An observation, of which the log has the newest times alone. Seats are settled at the end."""
    told = event.data
    known = before or Observation(
        id=observation_id(told.group_id, told.member_id),
        group_id=told.group_id,
        member_id=told.member_id,
        unit=told.unit,
        kind=told.kind,
        seat=False,
        elsewhere=False,
        changed_at=event.time,
    )
    known = replace(known, sequence=event.sequence, changed_at=event.time)
    match told:
        case GroupInviteLapsed():
            return replace(known, reinvites=told.attempt, invited_at=event.time)
        case GroupMemberObserved() if told.state == "left":
            # It was seen before, or it could not have left; a rebuild may have lost when.
            return replace(known, present_at=known.present_at or EARLIEST, absent_at=told.observed_at)
        case GroupMemberObserved():
            return replace(known, present_at=told.observed_at)
        case ObservationSnapshot():
            left = told.state == "left"
            return replace(
                known,
                reinvites=told.attempts,
                present_at=EARLIEST if left else told.observed_at,
                absent_at=told.observed_at if left else None,
            )


def settled_observation(known: Observation, group: Group, placement: Placement | None) -> Observation:
    return seated(known, group, placement.seats if placement else {})


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
        case GroupMemberAssigned():
            return PlacementState.ASSIGNED, told.group_id, told.ordinal
        case GroupMemberWaiting():
            return PlacementState(told.reason), None, None
        case GroupMemberRemoved():
            return PlacementState.LEFT if told.reason == "left" else PlacementState.WAITING_UNIT, None, None
        case PlacementSnapshot():
            return PlacementState(told.state), told.group_id, told.ordinal
