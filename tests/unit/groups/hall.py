"""Groups and placements as a database would keep them between transactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from services.groups.core.domain import GroupState, Placement
from services.groups.core.policy import Policy, default_policy
from services.groups.core.seating.domain import (
    Seating,
    Waiter,
    contested,
    demand_of,
    seat_members,
    short_of_seats,
)
from services.groups.core.seating.drafts import Change, Draft, Review, draft
from services.groups.core.seating.group_seats import GroupSeats, Numbering, Pair
from services.groups.core.seating.service import queued

NOW = datetime(2026, 11, 23, tzinfo=UTC)
NAMES = {unit: {"en": unit, "hi": unit} for unit in ("BR", "BR-A", "BR-B")}


class Hall:
    """Applies requests as one transaction does, which reads only what the rules ask for."""

    def __init__(self, policy: Policy | int, groups: Sequence[GroupSeats] = ()) -> None:
        self.policy = default_policy(policy) if isinstance(policy, int) else policy
        self.groups = {group.id: group for group in groups}
        self.placements: dict[str, Placement] = {}
        self.events: list[tuple[str, int]] = []
        """(subject, sequence) of each."""

    def seat(
        self,
        *requests: Change | Review,
        now: datetime = NOW,
        names: Mapping[str, Mapping[str, str]] = NAMES,
    ) -> Seating:
        found = (draft(r, self.placements.get(r.member_id), self.policy) for r in requests)
        drafts: list[Draft] = [each for each in found if each is not None]
        left = [seat for each in drafts for seat in each.left]
        demand = demand_of(drafts)
        waited = contested(demand, left, self.policy)
        ids, pairs = {seat.group_id for seat in left}, demand.keys() | waited
        seen = [
            group
            for group in self.groups.values()
            if (group.state is GroupState.OPEN and (group.unit, group.kind) in pairs) or group.id in ids
        ]
        short = {*short_of_seats(demand, seen), *waited}
        seating = seat_members(
            drafts,
            seen,
            {pair: self._numbering(pair) for pair in short},
            names,
            self.policy,
            now=now,
            waited=waited,
            waiters=self._waiters(waited),
        )
        for new in seating.created:
            shape = (new.id, new.unit, new.kind, new.ordinal, new.capacity, new.taken, new.version)
            assert new.id not in self.groups
            self.groups[new.id] = GroupSeats(*shape)
        self.groups.update({group.id: group for group in seating.changed})
        self.placements.update({step.state.member_id: step.state for step in seating.steps})
        steps = seating.steps
        self.events += [(event.subject, sequence) for step in steps for event, sequence in step.events]
        return seating

    def taken(self) -> list[tuple[str, int, int]]:
        return sorted((g.unit, g.ordinal, g.taken) for g in self.groups.values())

    def queue(self, pair: Pair) -> list[tuple[datetime, str, str]]:
        """(since, member, rule) of those who wait for a seat, in order."""
        return sorted(
            (seat.since, member_id, seat.rule)
            for member_id, placement in self.placements.items()
            for seat in queued(placement)
            if seat.state == "waiting_seat" and (seat.unit, seat.kind) == pair
        )

    def _waiters(self, pairs: set[Pair]) -> list[Waiter]:
        return [
            Waiter(self.placements[member_id], rule)
            for pair in sorted(pairs)
            for _, member_id, rule in self.queue(pair)
        ]

    def _numbering(self, pair: Pair) -> Numbering:
        own = [group for group in self.groups.values() if (group.unit, group.kind) == pair]
        return Numbering(max((g.ordinal for g in own), default=0), len(own))
