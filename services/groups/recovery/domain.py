"""Units, groups and placements as the events of this service's own topic leave them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias

from services.groups.core.domain import (
    GENERAL,
    Facts,
    Group,
    Placement,
    PlacementState,
    Seat,
    Unit,
    group_name,
)
from services.groups.core.levels import SHIPPED
from services.groups.core.observations.domain import Observation, observation_id, seated
from services.groups.core.policy import Cap, Policy, Rule
from services.shared.contracts.base import Envelope
from services.shared.contracts.groups import (
    GroupAdminsChanged,
    GroupArchived,
    GroupCreated,
    GroupFilled,
    GroupInviteChanged,
    GroupInviteLapsed,
    GroupMemberAssigned,
    GroupMemberObserved,
    GroupMemberRedrawn,
    GroupMemberRemoved,
    GroupMemberWaiting,
    GroupSnapshot,
    GroupUpdated,
    ObservationSnapshot,
    PlacementSnapshot,
    PolicyApplied,
    SeatHeld,
    UnitSucceeded,
    UnitUpserted,
)
from services.shared.contracts.vocabulary import EARLIEST, depth_of, parent_of

GroupEvent: TypeAlias = (
    GroupCreated
    | GroupUpdated
    | GroupFilled
    | GroupInviteChanged
    | GroupAdminsChanged
    | GroupArchived
    | GroupSnapshot
)
ObservationEvent: TypeAlias = GroupMemberObserved | GroupInviteLapsed | ObservationSnapshot
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
    level = SHIPPED[min(depth_of(code), len(SHIPPED)) - 1]
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
    if isinstance(told, GroupInviteChanged | GroupAdminsChanged | GroupArchived):
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
    archived = isinstance(told, GroupArchived) or after.retired == "archived"
    if isinstance(told, GroupUpdated | GroupSnapshot) and not archived:
        archived = told.retired == "archived"
        # The job that was emptying it is lost: asking again goes on, and reopening takes it back.
        closes = told.retired == "closing"
        shrinks_to = told.shrinks_to if closes else None
        after = replace(after, retired="closing" if closes else None, shrinks_to=shrinks_to)
    if archived:
        after = replace(after, retired="archived", invite_link=None, sealed_link=None, link_lost=None)
    return after


def restored_placement(event: Envelope[PlacementEvent], before: Placement | None) -> Placement:
    """The placement with the seat of the event's rule, or with all seats of a snapshot.

    The facts about the member are not in this log: they are learnt from the member's own events, which are
    heard again, and until the last one that was answered, no seat changes.
    """
    told, applied = event.data, before.member_sequence if before else 0
    answered = max(applied, told.member_sequence) if completes_answer(told) else applied
    after = before or _nowhere(told, event)
    if isinstance(told, PlacementSnapshot) or told.rule == GENERAL:
        state, group_id, ordinal = _seat(told)
        unit = told.member_unit or told.unit
        after = replace(
            after,
            unit=unit,
            group_id=group_id,
            ordinal=ordinal,
            state=state,
            since=_since(told, event, before),
            group_unit=told.unit if told.unit != unit else None,
            meant=told.meant if isinstance(told, GroupMemberRedrawn | PlacementSnapshot) else None,
        )
    seats = {seat.rule: seat for seat in after.seats or ()}
    match told:
        case PlacementSnapshot():
            seats = {held.rule: _held(held) for held in told.seats}
        case GroupMemberRemoved() if told.rule != GENERAL:
            seats.pop(told.rule, None)
        case GroupMemberAssigned() | GroupMemberWaiting() if told.rule != GENERAL:
            seats[told.rule] = _told(told, event)
        case GroupMemberRedrawn() if told.rule != GENERAL:
            old = seats.get(told.rule)
            at = (told.rule, told.kind, told.unit, PlacementState.ASSIGNED, old.since if old else event.time)
            seats[told.rule] = Seat(*at, told.group_id, told.ordinal, told.meant)
    return replace(
        after,
        member_sequence=answered,
        sequence=event.sequence,
        facts=Facts(until=answered) if answered and not after.is_out else None,
        seats=tuple(seats.values()) or None,
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
    return seated(known, group, placement.by_group if placement else {})


def completes_answer(told: PlacementEvent) -> bool:
    """A seat given up for another is half of an answer: the other half is still to come. Events of before
    there were several seats do not say so themselves."""
    if isinstance(told, PlacementSnapshot):
        return True
    return told.completes and not (isinstance(told, GroupMemberRemoved) and told.reason == "moved")


def marks_cause(told: PlacementEvent) -> bool:
    """Whether the member's event that it answers need not be heard again: the member is out, so that no fact
    about them matters; or the answer is of before `member_sequence`, which would keep it from being given
    again."""
    out = isinstance(told, GroupMemberRemoved) and told.rule == GENERAL and not told.unplaced
    return completes_answer(told) and (told.member_sequence == 0 or out)


def settled_group(group: Group, taken: int, unit: Unit | None) -> Group:
    """The group with the seats that are taken according to the placements, and with a name if it had none."""
    unit_name = unit.name if unit else {"en": group.unit, "hi": group.unit}
    return replace(group, taken=taken, name=group.name or group_name(unit_name, group.ordinal, group.kind))


def _seat(told: PlacementEvent) -> tuple[PlacementState, str | None, int | None]:
    """State, group and ordinal. A member who gave up a seat for another waits until the next event."""
    match told:
        case GroupMemberAssigned() | GroupMemberRedrawn():
            return PlacementState.ASSIGNED, told.group_id, told.ordinal
        case GroupMemberWaiting():
            return PlacementState(told.reason), None, None
        case GroupMemberRemoved() if told.unplaced:
            return PlacementState.REMOVED, None, None
        case GroupMemberRemoved():
            return PlacementState.LEFT if told.reason == "left" else PlacementState.WAITING_UNIT, None, None
        case PlacementSnapshot():
            return PlacementState(told.state), told.group_id, told.ordinal


def _since(told: PlacementEvent, event: Envelope[PlacementEvent], before: Placement | None) -> datetime:
    """Since when the member has the seat: a redrawn one is the same."""
    if isinstance(told, PlacementSnapshot):
        return told.since
    return before.since if before and isinstance(told, GroupMemberRedrawn) else event.time


def _nowhere(told: PlacementEvent, event: Envelope[PlacementEvent]) -> Placement:
    """A member of whom a seat by another rule is told first: the general one waits for its unit."""
    return Placement(
        member_id=told.member_id,
        member_sequence=0,
        sequence=0,
        unit=told.member_unit or told.unit,
        group_id=None,
        kind=GENERAL,
        ordinal=None,
        state=PlacementState.WAITING_UNIT,
        since=event.time,
    )


def _held(held: SeatHeld) -> Seat:
    state = PlacementState(held.state)
    at = (held.group_id, held.ordinal, held.meant)
    return Seat(held.rule, held.kind, held.unit, state, held.since, *at)


def _told(told: GroupMemberAssigned | GroupMemberWaiting, event: Envelope[PlacementEvent]) -> Seat:
    if isinstance(told, GroupMemberWaiting):
        return Seat(told.rule, told.kind, told.unit, PlacementState(told.reason), event.time)
    assigned = PlacementState.ASSIGNED
    return Seat(told.rule, told.kind, told.unit, assigned, event.time, told.group_id, told.ordinal)


def restored_levels(used: Mapping[int, str], told: Sequence[str]) -> tuple[str, ...]:
    """The levels of a tree whose units have these levels at each depth. `told` are those that the newest
    policy knew, which may have some more below."""
    above = tuple(level for _, level in sorted(used.items()))
    below = tuple(level for level in told[len(above) :] if level not in above)
    return above + below


def restored_policy(event: Envelope[PolicyApplied]) -> Policy:
    told = event.data
    return Policy(
        version=event.sequence,
        levels=told.levels,
        tree=told.tree or SHIPPED,
        kinds=tuple(Cap(each.kind, each.capacity, each.groups) for each in told.kinds),
        rules=tuple(Rule(r.id, r.kind, r.at, r.gender, r.consent, r.role) for r in told.rules),
    )
