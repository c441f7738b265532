"""Observations: who really is in a chat group, as its rosters show. Pure.

Only the newest roster that shows a member and the newest complete one that does not are remembered, so the
order in which rosters arrive does not matter, and the same one twice is as good as once. A roster that is not
complete proves no absence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from services.groups.core.domain import Group, Placement, PlacementState, Seat
from services.shared.contracts.groups import GroupInviteLapsed, GroupMemberObserved

MAX_REINVITES: Final = 2


class Cause(StrEnum):
    """Why a member is not where they should be. A stranger is no member, so only their number is known."""

    NEVER_CAME = "never_came"
    LEFT = "left"
    TWO_GROUPS = "two_groups"
    """In this group, while their seat is in another of its kind."""
    NO_SEAT = "no_seat"
    """In this group, without a seat in any of its kind: they left the organisation, were erased, or wait."""


JOINED: Final = PlacementState.JOINED.value
COUNTED: Final = (JOINED, *(cause.value for cause in Cause))
"""Fields of a group's counts: members who are where they should be, and those who are not, by cause."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One member and one chat group, of this unit and kind.

    `since` is when the member got the seat, `invited_at` when the last invite was sent; `reinvites` counts
    those repeated. `present_at` and `absent_at` are the times of the newest rosters that show and do not show
    the member. `due_at` is when to invite again, and `reset` whether that is because the link was reset.
    `sequence` is that of the last event about the two.
    """

    id: str
    group_id: str
    member_id: str
    unit: str
    kind: str
    seat: bool
    elsewhere: bool
    changed_at: datetime
    since: datetime | None = None
    invited_at: datetime | None = None
    reinvites: int = 0
    present_at: datetime | None = None
    absent_at: datetime | None = None
    due_at: datetime | None = None
    reset: bool | None = None
    sequence: int = 0

    @property
    def state(self) -> PlacementState:
        if self.present_at is not None:
            left = self.absent_at is not None and self.absent_at > self.present_at
            return PlacementState.LEFT if left else PlacementState.JOINED
        return PlacementState.INVITED if self.invited_at is not None else PlacementState.ASSIGNED

    @property
    def cause(self) -> Cause | None:
        """Why the member is not where they should be; None if they are, or nothing is proven."""
        state = self.state
        if not self.seat:
            if state is not PlacementState.JOINED:
                return None
            return Cause.TWO_GROUPS if self.elsewhere else Cause.NO_SEAT
        if state is PlacementState.LEFT:
            return Cause.LEFT
        if state is PlacementState.JOINED or self.absent_at is None:
            return None
        # A roster that was taken before the member had the seat proves nothing of it.
        return Cause.NEVER_CAME if self.since is None or self.absent_at >= self.since else None

    @property
    def counted(self) -> str | None:
        """The count of the group that this one is in, of `COUNTED`."""
        if self.cause is not None:
            return self.cause.value
        return JOINED if self.seat and self.state is PlacementState.JOINED else None

    @property
    def observed_at(self) -> datetime | None:
        return self.absent_at if self.state is PlacementState.LEFT else self.present_at

    @property
    def may_be_invited(self) -> bool:
        """Nobody who was in the group and left it is asked again."""
        gone = self.state in (PlacementState.JOINED, PlacementState.LEFT)
        return self.seat and not gone and self.reinvites < MAX_REINVITES


class Changed(NamedTuple):
    """An observation before (None if it is new) and after."""

    before: Observation | None
    after: Observation


def observation_id(group_id: str, member_id: str) -> str:
    return f"{group_id}/{member_id}"


def new_observation(group: Group, placement: Placement, now: datetime) -> Observation:
    made = Observation(
        id=observation_id(group.id, placement.member_id),
        group_id=group.id,
        member_id=placement.member_id,
        unit=group.unit,
        kind=group.kind,
        seat=False,
        elsewhere=False,
        changed_at=now,
    )
    return seated(made, group, placement.by_group)


def seated(known: Observation, group: Group, seats: Mapping[str, Seat]) -> Observation:
    """With the seats that the member has now, and the group as it is now."""
    seat = seats.get(known.group_id)
    elsewhere = any(other.kind == group.kind and id_ != group.id for id_, other in seats.items())
    after = replace(
        known,
        unit=group.unit,
        kind=group.kind,
        seat=seat is not None,
        elsewhere=elsewhere,
        since=seat.since if seat else None,
    )
    return after if after.may_be_invited else replace(after, due_at=None, reset=None)


def seen(known: Observation, at: datetime, *, present: bool) -> Observation:
    """After a roster taken at `at` that shows the member, or a complete one that does not."""
    if present:
        return replace(known, present_at=max(at, known.present_at or at))
    return replace(known, absent_at=max(at, known.absent_at or at))


def invited(known: Observation, at: datetime) -> Observation:
    """After an invite was sent."""
    return replace(known, invited_at=max(at, known.invited_at or at))


def scheduled(known: Observation, patience: timedelta) -> Observation:
    """With the time of the next invite, if one is due: a complete roster taken after the last one, or after
    the member got the seat, does not show them. They have `patience` to take an invite."""
    if not known.may_be_invited:
        return replace(known, due_at=None, reset=None)
    asked = known.invited_at or known.since
    if known.due_at is not None or known.absent_at is None or asked is None or known.absent_at < asked:
        return known
    return replace(known, due_at=asked + patience)


def link_was_reset(known: Observation, now: datetime) -> Observation:
    """The link that the member has no longer works: they get the new one at once, unless they are in."""
    return replace(known, due_at=now, reset=True) if known.may_be_invited else known


def lapsed(known: Observation, now: datetime) -> tuple[Observation, GroupInviteLapsed]:
    """The invite is to be sent again. That nobody was there before it proves nothing about it."""
    attempt = known.reinvites + 1
    after = replace(known, reinvites=attempt, invited_at=now, due_at=None, reset=None)
    event = GroupInviteLapsed(
        member_id=known.member_id,
        group_id=known.group_id,
        unit=known.unit,
        kind=known.kind,
        attempt=attempt,
        cause="link_reset" if known.reset else Cause.NEVER_CAME.value,
    )
    return after, event


def observed(before: Observation, after: Observation) -> GroupMemberObserved | None:
    """The event that tells of the change; None if the member neither came nor left."""
    state = after.state
    if state is before.state or after.observed_at is None:
        return None
    return GroupMemberObserved(
        member_id=after.member_id,
        group_id=after.group_id,
        unit=after.unit,
        kind=after.kind,
        state="left" if state is PlacementState.LEFT else "joined",
        observed_at=after.observed_at,
    )
